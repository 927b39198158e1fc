// Command xds-peer is go-control-plane behind the commands of the benchmark `xds_peers`, which measures it beside
// networkmesh's own server.
//
//	xds-peer MODE SOCKET RESOURCES
//
// It loads a file of resources, serves them over aggregated discovery on a Unix socket, says `ready`, and then
// answers commands, one a line. Times are in nanoseconds since the Unix epoch.
//
//	change FILE                one change that sets the file's resources → prepared ID 1
//	changes FILE               one change for each of the file's resources → prepared FIRST COUNT
//	apply ID                   makes the change, waits for the client's ACK → acked STARTED ACKED
//	burst FIRST COUNT SECONDS  makes changes one after the other, no longer than that → made COUNT STARTED ENDED
//
// Files hold length-delimited envoy.service.discovery.v3.Resource messages. What a change needs is decoded when it
// is prepared, so that `apply` costs what a control plane pays that holds its messages already.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// node is the only client's ID.
const node = "bench"

// patience bounds the wait for an ACK.
const patience = 2 * time.Minute

// maxRequest lets a client name a hundred thousand resources in one request.
const maxRequest = 64 << 20

// maxStreams is what Kuscia sets.
const maxStreams = 1000000

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "xds-peer:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("usage: xds-peer snapshot|kuscia|linear SOCKET RESOURCES")
	}
	resources, err := readResources(os.Args[3])
	if err != nil {
		return err
	}
	store, err := newStore(os.Args[1], resources)
	if err != nil {
		return err
	}
	acks := newAcks()
	grpcServer := grpc.NewServer(grpc.MaxConcurrentStreams(maxStreams), grpc.MaxRecvMsgSize(maxRequest))
	discovery.RegisterAggregatedDiscoveryServiceServer(
		grpcServer, server.NewServer(context.Background(), store.cache(), acks.callbacks()))
	listener, err := net.Listen("unix", os.Args[2])
	if err != nil {
		return err
	}
	go func() {
		fmt.Fprintln(os.Stderr, "xds-peer:", grpcServer.Serve(listener))
		os.Exit(1)
	}()
	fmt.Println("ready")
	control := control{store: store, acks: acks}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := control.execute(lines.Text())
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		fmt.Println(answer)
	}
	return lines.Err()
}

type control struct {
	store   store
	acks    *acks
	changes [][]resource
}

func (c *control) execute(line string) (string, error) {
	verb, arguments, _ := strings.Cut(line, " ")
	switch verb {
	case "change":
		resources, err := readResources(arguments)
		c.changes = append(c.changes, resources)
		return fmt.Sprintf("prepared %d 1", len(c.changes)-1), err
	case "changes":
		first := len(c.changes)
		resources, err := readResources(arguments)
		for _, one := range resources {
			c.changes = append(c.changes, []resource{one})
		}
		return fmt.Sprintf("prepared %d %d", first, len(resources)), err
	case "apply":
		var id int
		if _, err := fmt.Sscan(arguments, &id); err != nil {
			return "", err
		}
		return c.apply(c.changes[id])
	case "burst":
		var first, count, seconds int
		if _, err := fmt.Sscan(arguments, &first, &count, &seconds); err != nil {
			return "", err
		}
		return c.burst(c.changes[first:first+count], time.Duration(seconds)*time.Second)
	}
	return "", fmt.Errorf("unknown command")
}

func (c *control) apply(change []resource) (string, error) {
	started := time.Now()
	versions, err := c.store.apply(change)
	if err != nil {
		return "", err
	}
	acked, err := c.acks.wait(versions)
	return fmt.Sprintf("acked %d %d", started.UnixNano(), acked.UnixNano()), err
}

func (c *control) burst(changes [][]resource, limit time.Duration) (string, error) {
	started := time.Now()
	made := 0
	for _, change := range changes {
		if time.Since(started) > limit {
			break
		}
		if _, err := c.store.apply(change); err != nil {
			return "", err
		}
		made++
	}
	return fmt.Sprintf("made %d %d %d", made, started.UnixNano(), time.Now().UnixNano()), nil
}
