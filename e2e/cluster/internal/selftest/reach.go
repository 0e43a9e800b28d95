package selftest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
)

// way is one connection that a pod makes to the server.
type way struct{ from, to string }

// ways are all by which the server must be reached, and none while a policy cuts it off: by the name of its Service
// from the other node and, in a dual-stack cluster, by each of its addresses from both nodes.
func (t *test) ways() ([]way, error) {
	ways := []way{{"client", "server.default.svc.cluster.local:80"}}
	if !t.DualStack {
		return ways, nil
	}
	for _, a := range []struct{ kind, path, port string }{{"pod", podIPs, "8080"}, {"service", clusterIPs, "80"}} {
		addresses, err := t.addresses(a.kind, "server", a.path)
		if err != nil {
			return nil, err
		}
		for _, address := range addresses {
			to := net.JoinHostPort(address, a.port)
			ways = append(ways, way{"near", to}, way{"client", to})
		}
	}
	return ways, nil
}

// everyWay tries all ways side by side and gives what judge finds wrong with how each came out.
func (t *test) everyWay(judge func(error) error) error {
	ways, err := t.ways()
	if err != nil {
		return err
	}
	wrong := make([]error, len(ways))
	var wg sync.WaitGroup
	for i, w := range ways {
		wg.Go(func() {
			_, err := t.exec(w.from, "/agnhost connect --timeout=3s "+w.to)
			if err := judge(err); err != nil {
				wrong[i] = fmt.Errorf("from %s to %s: %w", w.from, w.to, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(wrong...)
}

// reach checks that every way leads to the server, cut that none does.
func (t *test) reach() error { return t.everyWay(func(err error) error { return err }) }

func (t *test) cut() error {
	return t.everyWay(func(err error) error { return contains(err, "TIMEOUT") })
}

// Where objects keep their addresses.
const (
	podIPs     = "{.status.podIPs[*].ip}"
	hostIPs    = "{.status.hostIPs[*].ip}"
	clusterIPs = "{.spec.clusterIPs[*]}"
	podCIDRs   = "{.spec.podCIDRs[*]}"
)

// addresses reads those of an object and wants one of each family that the cluster has, IPv4 first.
func (t *test) addresses(kind, name, path string) ([]string, error) {
	out, err := t.kubectl("", "get", kind, name, "-o", "jsonpath="+path)
	if err != nil {
		return nil, err
	}
	got := strings.Fields(out)
	if err := inFamilies(got, t.DualStack); err != nil {
		return nil, fmt.Errorf("%s of %s %s: %w", path, kind, name, err)
	}
	return got, nil
}

// inFamilies wants one address or network: of IPv4 alone, or of IPv4 and then IPv6.
func inFamilies(got []string, dualStack bool) error {
	want := []string{"IPv4"}
	if dualStack {
		want = append(want, "IPv6")
	}
	var families []string
	for _, address := range got {
		family := "IPv4"
		if strings.Contains(address, ":") {
			family = "IPv6"
		}
		families = append(families, family)
	}
	if strings.Join(families, ",") != strings.Join(want, ",") {
		return fmt.Errorf("got %q, want one of each of %v", got, want)
	}
	return nil
}

// families checks that everything has addresses of the cluster's families and that all of them work.
func (t *test) families() error {
	for _, a := range []struct{ kind, name, path string }{
		{"node", "node1", podCIDRs}, {"node", "node2", podCIDRs},
		{"pod", "server", podIPs}, {"pod", "near", podIPs}, {"pod", "client", podIPs}, {"pod", "client", hostIPs},
		{"service", "server", clusterIPs},
	} {
		if _, err := t.addresses(a.kind, a.name, a.path); err != nil {
			return err
		}
	}
	if t.DualStack {
		got, err := t.exec("client", "nslookup -type=aaaa server.default.svc.cluster.local fd00:10:96::a")
		if err == nil && !strings.Contains(got, "Address: fd00:10:96::") {
			err = fmt.Errorf("the name of the server's Service resolves to %q", got)
		}
		if err != nil {
			return fmt.Errorf("cluster DNS by its IPv6 address: %w", err)
		}
	}
	return t.reach()
}
