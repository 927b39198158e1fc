// CoreDNS with the plugins that Kuscia could answer for its domains with: `hosts`, `file`, and one of our own that answers
// from memory.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/hosts"
)

func main() {
	dnsserver.Directives = []string{"bind", "hosts", "memory", "file"}
	coremain.Run()
}
