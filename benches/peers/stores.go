package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	xds "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// typeURLs are the types that are served, whether there are resources of them or not.
var typeURLs = []string{
	xds.ClusterType, xds.EndpointType, xds.SecretType, xds.ExtensionConfigType,
	xds.ListenerType, xds.RouteType, xds.ScopedRouteType, xds.VirtualHostType,
}

// versions are what a client acknowledges once it holds a change, by type.
type versions map[string]uint64

// A store feeds one of go-control-plane's caches.
type store interface {
	cache() cache.Cache
	// apply makes one change.
	apply(change []resource) (versions, error)
}

func newStore(mode string, resources []resource) (store, error) {
	switch mode {
	case "snapshot":
		return newSnapshots(resources, false)
	case "kuscia":
		return newSnapshots(resources, true)
	case "linear":
		return newLinear(resources)
	}
	return nil, fmt.Errorf("unknown mode %q", mode)
}

// snapshots feeds a snapshot cache as Kuscia's gateway does (pkg/gateway/xds): under one lock, a change copies the
// map of its type, lists every resource of every type anew, and makes a snapshot with one new version for all types.
// So with state-of-the-world all types are sent again, whichever has changed.
type snapshots struct {
	lock    sync.Mutex
	served  cache.SnapshotCache
	current *cache.Snapshot
	version uint64
	// eachAlone: a snapshot for each resource of a change, as Kuscia's functions set one resource each. A virtual
	// host goes in front of the route table before the slash of its name, after that whole table was cloned.
	eachAlone bool
}

func newSnapshots(resources []resource, eachAlone bool) (*snapshots, error) {
	s := &snapshots{
		served:    cache.NewSnapshotCache(true, cache.IDHash{}, nil),
		current:   &cache.Snapshot{},
		eachAlone: eachAlone,
	}
	items := make(map[string]map[string]types.ResourceWithTTL)
	for _, r := range resources {
		if items[r.typeURL] == nil {
			items[r.typeURL] = make(map[string]types.ResourceWithTTL)
		}
		items[r.typeURL][r.name] = types.ResourceWithTTL{Resource: r.message}
	}
	return s, s.reset(items)
}

func (s *snapshots) cache() cache.Cache { return s.served }

func (s *snapshots) apply(change []resource) (versions, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if !s.eachAlone {
		return s.set(change)
	}
	changed := versions{}
	for _, r := range change {
		if host, ok := r.message.(*route.VirtualHost); ok {
			table, err := s.tableWith(r.name, host)
			if err != nil {
				return nil, err
			}
			r = table
		}
		version, err := s.set([]resource{r})
		if err != nil {
			return nil, err
		}
		changed[r.typeURL] = version[r.typeURL]
	}
	return changed, nil
}

func (s *snapshots) set(change []resource) (versions, error) {
	changed := make(map[string]map[string]types.ResourceWithTTL)
	for _, r := range change {
		items, copied := changed[r.typeURL]
		if !copied {
			old := s.current.GetResourcesAndTTL(r.typeURL)
			items = make(map[string]types.ResourceWithTTL)
			for name, item := range old {
				items[name] = item
			}
			changed[r.typeURL] = items
		}
		items[r.name] = types.ResourceWithTTL{Resource: r.message}
	}
	if err := s.reset(changed); err != nil {
		return nil, err
	}
	versions := versions{}
	for typeURL := range changed {
		versions[typeURL] = s.version
	}
	return versions, nil
}

func (s *snapshots) tableWith(name string, host *route.VirtualHost) (resource, error) {
	tableName, _, _ := strings.Cut(name, "/")
	old, ok := s.current.GetResourcesAndTTL(xds.RouteType)[tableName]
	if !ok {
		return resource{}, fmt.Errorf("no route table %s", tableName)
	}
	table := proto.Clone(old.Resource).(*route.RouteConfiguration)
	for i := range table.VirtualHosts {
		if table.VirtualHosts[i].Name == host.Name {
			table.VirtualHosts = append(table.VirtualHosts[:i], table.VirtualHosts[i+1:]...)
			break
		}
	}
	table.VirtualHosts = append([]*route.VirtualHost{host}, table.VirtualHosts...)
	return resource{xds.RouteType, tableName, table}, nil
}

// reset makes and sets a snapshot of the current resources, but for the types in changed.
func (s *snapshots) reset(changed map[string]map[string]types.ResourceWithTTL) error {
	resources := make(map[xds.Type][]types.Resource)
	for _, typeURL := range typeURLs {
		items, ok := changed[typeURL]
		if !ok {
			items = s.current.GetResourcesAndTTL(typeURL)
		}
		listed := make([]types.Resource, 0, len(items))
		for _, item := range items {
			listed = append(listed, item.Resource)
		}
		resources[typeURL] = listed
	}
	next, err := cache.NewSnapshot(strconv.FormatUint(s.version+1, 10), resources)
	if err != nil {
		return err
	}
	if err := s.served.SetSnapshot(context.Background(), node, next); err != nil {
		return err
	}
	s.version++
	s.current = next
	return nil
}

// linear feeds one linear cache a type: the best that go-control-plane can do. It has no order between types.
type linear struct {
	caches   map[string]*cache.LinearCache
	versions versions
}

func newLinear(resources []resource) (*linear, error) {
	l := &linear{caches: make(map[string]*cache.LinearCache), versions: versions{}}
	initial := make(map[string]map[string]types.Resource)
	for _, typeURL := range typeURLs {
		initial[typeURL] = make(map[string]types.Resource)
	}
	for _, r := range resources {
		if initial[r.typeURL] == nil {
			return nil, fmt.Errorf("unknown type %s", r.typeURL)
		}
		initial[r.typeURL][r.name] = r.message
	}
	for typeURL, items := range initial {
		l.caches[typeURL] = cache.NewLinearCache(typeURL, cache.WithInitialResources(items))
	}
	return l, nil
}

func (l *linear) cache() cache.Cache {
	mux := cache.MuxCache{
		Classify:      func(request *cache.Request) string { return request.GetTypeUrl() },
		ClassifyDelta: func(request *cache.DeltaRequest) string { return request.GetTypeUrl() },
		Caches:        make(map[string]cache.Cache),
	}
	for typeURL, linear := range l.caches {
		mux.Caches[typeURL] = linear
	}
	return &mux
}

func (l *linear) apply(change []resource) (versions, error) {
	updates := make(map[string]map[string]types.Resource)
	for _, r := range change {
		if updates[r.typeURL] == nil {
			updates[r.typeURL] = make(map[string]types.Resource)
		}
		updates[r.typeURL][r.name] = r.message
	}
	changed := versions{}
	for _, typeURL := range typeURLs {
		update, ok := updates[typeURL]
		if !ok {
			continue
		}
		if err := l.caches[typeURL].UpdateResources(update, nil); err != nil {
			return nil, err
		}
		// The cache counts its updates in the same way, but does not tell.
		l.versions[typeURL]++
		changed[typeURL] = l.versions[typeURL]
	}
	return changed, nil
}
