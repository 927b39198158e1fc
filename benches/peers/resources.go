package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	// The types of resources that files hold.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// A resource, decoded.
type resource struct {
	typeURL string
	name    string
	message proto.Message
}

// readResources reads length-delimited envoy.service.discovery.v3.Resource messages.
func readResources(path string) ([]resource, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader := bufio.NewReaderSize(file, 1<<20)
	options := protodelim.UnmarshalOptions{MaxSize: -1}
	var resources []resource
	for {
		var wrapped discovery.Resource
		if err := options.UnmarshalFrom(reader, &wrapped); errors.Is(err, io.EOF) {
			return resources, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		message, err := wrapped.GetResource().UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, wrapped.GetName(), err)
		}
		resources = append(resources, resource{wrapped.GetResource().GetTypeUrl(), wrapped.GetName(), message})
	}
}
