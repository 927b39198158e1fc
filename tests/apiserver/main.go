// A Kubernetes API server and its etcd in one process, for tests.
//
//	apiserver serve FOLDER CLIENT PEER [FLAG…]
//
// keeps etcd's data in FOLDER, has etcd listen at the addresses CLIENT and PEER, and runs kube-apiserver with the flags.
// It ends on SIGTERM, and as soon as its standard input ends: so it never outlives the test that holds the other end.
//
//	apiserver compact CLIENT
//
// has the etcd at the address CLIENT forget all revisions but the newest.
package main

import (
	"fmt"
	"io"
	"net/url"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	err := fmt.Errorf("usage: apiserver serve FOLDER CLIENT PEER [FLAG…] | apiserver compact CLIENT")
	switch args := os.Args[1:]; {
	case len(args) >= 4 && args[0] == "serve":
		err = serve(args[1], args[2], args[3], args[4:])
	case len(args) == 2 && args[0] == "compact":
		err = compact(args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(folder, client, peer string, flags []string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()

	etcd, err := startEtcd(folder, client, peer)
	if err != nil {
		return err
	}
	defer etcd.Close()

	command := app.NewAPIServerCommand()
	command.SetArgs(append(flags, "--etcd-servers=http://"+client))
	if code := cli.Run(command); code != 0 {
		return fmt.Errorf("kube-apiserver failed with code %d", code)
	}
	return nil
}

func startEtcd(folder, client, peer string) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Dir = folder
	config.ListenClientUrls = []url.URL{{Scheme: "http", Host: client}}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.ListenPeerUrls = []url.URL{{Scheme: "http", Host: peer}}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "error"
	// The data need to outlive the process, but not a crash of the machine.
	config.UnsafeNoFsync = true

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("etcd does not start: %w", err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, fmt.Errorf("etcd failed: %w", err)
	}
}

func compact(address string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + address}})
	if err != nil {
		return err
	}
	defer client.Close()

	// Every answer bears the newest revision, also one about a key that does not exist.
	answer, err := client.Get(client.Ctx(), "none")
	if err != nil {
		return err
	}
	_, err = client.Compact(client.Ctx(), answer.Header.Revision)
	return err
}
