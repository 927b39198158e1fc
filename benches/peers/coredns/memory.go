package main

import (
	"bufio"
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// ttl of answers, in seconds: that of the mesh.
const ttl = 5

// changesPerSecond is how often the table changes where it is to change.
const changesPerSecond = 1000

func init() { plugin.Register("memory", setup) }

// memory answers A from a table behind a lock. Its argument is a file of lines `address name`, as of `hosts`; a second
// argument is a file that, while it exists, makes it change the addresses of a thousand names a second.
type memory struct {
	next  plugin.Handler
	mutex sync.RWMutex
	table map[string][]net.IP
	names []string
}

func setup(c *caddy.Controller) error {
	c.Next()
	arguments := c.RemainingArgs()
	m := &memory{table: map[string][]net.IP{}}
	if err := m.load(arguments[0]); err != nil {
		return plugin.Error("memory", err)
	}
	if len(arguments) > 1 {
		go m.change(arguments[1])
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		m.next = next
		return m
	})
	return nil
}

func (m *memory) load(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		name := dns.Fqdn(fields[1])
		m.table[name] = append(m.table[name], net.ParseIP(fields[0]))
		m.names = append(m.names, name)
	}
	return lines.Err()
}

func (m *memory) change(path string) {
	for tick := 0; ; tick++ {
		time.Sleep(time.Second / changesPerSecond)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		m.mutex.Lock()
		m.table[m.names[tick%len(m.names)]] = []net.IP{net.IPv4(10, 255, byte(tick>>8), byte(tick))}
		m.mutex.Unlock()
	}
}

func (m *memory) Name() string { return "memory" }

func (m *memory) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	m.mutex.RLock()
	addresses := m.table[state.Name()]
	m.mutex.RUnlock()
	if len(addresses) == 0 || state.QType() != dns.TypeA {
		return plugin.NextOrFailure(m.Name(), m.next, ctx, w, r)
	}
	answer := new(dns.Msg)
	answer.SetReply(r)
	answer.Authoritative = true
	for _, address := range addresses {
		header := dns.RR_Header{Name: state.QName(), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
		answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: address})
	}
	return dns.RcodeSuccess, w.WriteMsg(answer)
}
