package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
)

// acks knows which version of each type the only client has acknowledged last, and since when.
type acks struct {
	lock sync.Mutex
	// sent holds the version of each unanswered delta response, by type and nonce: delta requests name no version.
	sent    map[[2]string]string
	acked   map[string]ack
	arrived chan struct{}
}

type ack struct {
	version uint64
	at      time.Time
}

func newAcks() *acks {
	return &acks{
		sent:    make(map[[2]string]string),
		acked:   make(map[string]ack),
		arrived: make(chan struct{}, 1),
	}
}

func (a *acks) callbacks() server.Callbacks {
	return server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, request *discovery.DiscoveryRequest) error {
			if rejection := request.GetErrorDetail(); rejection != nil {
				fmt.Fprintln(os.Stderr, "xds-peer: the client rejects", request.GetTypeUrl(), rejection.GetMessage())
			} else if request.GetResponseNonce() != "" {
				a.arrive(request.GetTypeUrl(), request.GetVersionInfo())
			}
			return nil
		},
		DeltaStreamClosedFunc: func(int64, *core.Node) {
			a.lock.Lock()
			defer a.lock.Unlock()
			clear(a.sent)
		},
		StreamDeltaResponseFunc: func(
			_ int64, _ *discovery.DeltaDiscoveryRequest, response *discovery.DeltaDiscoveryResponse,
		) {
			a.lock.Lock()
			defer a.lock.Unlock()
			a.sent[[2]string{response.GetTypeUrl(), response.GetNonce()}] = response.GetSystemVersionInfo()
		},
		StreamDeltaRequestFunc: func(_ int64, request *discovery.DeltaDiscoveryRequest) error {
			key := [2]string{request.GetTypeUrl(), request.GetResponseNonce()}
			a.lock.Lock()
			version, answered := a.sent[key]
			delete(a.sent, key)
			a.lock.Unlock()
			if rejection := request.GetErrorDetail(); rejection != nil {
				fmt.Fprintln(os.Stderr, "xds-peer: the client rejects", request.GetTypeUrl(), rejection.GetMessage())
			} else if answered {
				a.arrive(request.GetTypeUrl(), version)
			}
			return nil
		},
	}
}

func (a *acks) arrive(typeURL, text string) {
	now := time.Now()
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return
	}
	a.lock.Lock()
	if version > a.acked[typeURL].version {
		a.acked[typeURL] = ack{version, now}
	}
	a.lock.Unlock()
	select {
	case a.arrived <- struct{}{}:
	default:
	}
}

// wait waits until the client has acknowledged at least these versions, and says when it had.
func (a *acks) wait(wanted versions) (time.Time, error) {
	deadline := time.After(patience)
	for {
		if last, all := a.since(wanted); all {
			return last, nil
		}
		select {
		case <-a.arrived:
		case <-deadline:
			return time.Time{}, fmt.Errorf("no ACK within %s of %v", patience, wanted)
		}
	}
}

func (a *acks) since(wanted versions) (last time.Time, all bool) {
	a.lock.Lock()
	defer a.lock.Unlock()
	for typeURL, version := range wanted {
		acked := a.acked[typeURL]
		if acked.version < version {
			return last, false
		}
		if acked.at.After(last) {
			last = acked.at
		}
	}
	return last, true
}
