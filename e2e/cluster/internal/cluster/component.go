package cluster

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// component is one long-running program of a member.
type component struct {
	name string
	// command says how it is started in a member.
	command func(c *Cluster, member string) (command, error)
	// health is a port and path on 127.0.0.1 of the member that answers 200 while the program is well; "" if it has none.
	health string
}

var (
	etcd              = component{name: "etcd", command: etcdCommand, health: fmt.Sprintf("%d/health", etcdPort)}
	apiserver         = component{name: "apiserver", command: apiserverCommand}
	controllerManager = component{name: "controller-manager", command: controllerManagerCommand}
	scheduler         = component{name: "scheduler", command: schedulerCommand}
	apiForwarder      = component{name: "api-forward", command: func(c *Cluster, _ string) (command, error) { return c.apiForward() }}
	webhookForwarder  = component{name: "webhook-forward", command: func(c *Cluster, _ string) (command, error) { return c.webhookForward() }}

	containerd = component{name: "containerd", command: containerdCommand}
	kubelet    = component{name: "kubelet", command: kubeletCommand, health: "10248/healthz"}
	kubeProxy  = component{name: "kube-proxy", command: proxyCommand, health: "10256/livez"}
	cilium     = component{name: "cilium", command: ciliumCommand, health: "9879/healthz"}
	fakeGPU    = component{name: "fakegpu", command: fakeGPUCommand}
)

// nodeComponents are those of a node in the order they start.
var nodeComponents = []component{containerd, kubelet, kubeProxy, cilium, fakeGPU}

// controlPlaneComponents are those of this cluster's control plane in the order they start.
func (c *Cluster) controlPlaneComponents() []component {
	list := []component{etcd, apiserver, apiForwarder}
	if c.state.WebhookPort != 0 {
		list = append(list, webhookForwarder)
	}
	list = append(list, controllerManager)
	if !c.state.ControlPlaneOnly {
		list = append(list, scheduler)
	}
	return list
}

func (c *Cluster) components(member string) []component {
	if member == controlPlane {
		return c.controlPlaneComponents()
	}
	return nodeComponents
}

// memberNames are the control plane and all nodes.
func (c *Cluster) memberNames() []string {
	names := []string{controlPlane}
	for _, i := range c.nodes() {
		names = append(names, nodeName(i))
	}
	return names
}

// nodeNumber is the inverse of nodeName, 0 for another name.
func nodeNumber(member string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(member, "node"))
	if err != nil {
		return 0
	}
	return n
}

// find gives the members that run a component of that name: on node only that one, on 0 all. The error lists the names.
func (c *Cluster) find(name string, node int) (component, []string, error) {
	var found component
	var members []string
	var names []string
	for _, m := range c.memberNames() {
		for _, comp := range c.components(m) {
			if !slices.Contains(names, comp.name) {
				names = append(names, comp.name)
			}
			if comp.name == name && (node == 0 || m == nodeName(node)) {
				found, members = comp, append(members, m)
			}
		}
	}
	if len(members) == 0 {
		return found, nil, fmt.Errorf("component %q: use one of %s (those of a node run on every node; --node picks one)", name, strings.Join(names, ", "))
	}
	return found, members, nil
}

// KillComponent ends a component with SIGKILL, on every node if node is 0.
func (c *Cluster) KillComponent(name string, node int) error {
	comp, members, err := c.findRunning(name, node)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := c.member(m).Processes[comp.name].kill(); err != nil {
			return err
		}
		c.log.Printf("%s on %s: killed", comp.name, m)
	}
	return nil
}

// StartComponent starts a component that was killed and waits until it is well, on every node if node is 0.
func (c *Cluster) StartComponent(ctx context.Context, name string, node int) error {
	comp, members, err := c.findRunning(name, node)
	if err != nil {
		return err
	}
	for _, m := range members {
		begin := time.Now()
		if err := c.start(m, comp); err != nil {
			return err
		}
		if err := c.waitFor(ctx, m, comp, 60*time.Second, c.healthy(m, comp)); err != nil {
			return err
		}
		c.log.Printf("%s on %s: running and well after %.1f s", comp.name, m, time.Since(begin).Seconds())
	}
	return nil
}

func (c *Cluster) findRunning(name string, node int) (component, []string, error) {
	if err := c.Running(); err != nil {
		return component{}, nil, err
	}
	comp, members, err := c.find(name, node)
	if err != nil {
		return comp, nil, err
	}
	members = slices.DeleteFunc(members, func(m string) bool { return !c.member(m).Holder.alive() })
	if len(members) == 0 {
		return comp, nil, fmt.Errorf("component %s: its node is stopped: run `node start %d`", name, max(1, node))
	}
	return comp, members, nil
}

// healthy checks one component in the way that fits it.
func (c *Cluster) healthy(member string, comp component) func(context.Context) error {
	holder := c.member(member).Holder
	switch {
	case comp.name == apiserver.name || comp.name == apiForwarder.name:
		return func(ctx context.Context) error {
			api, err := c.api()
			if err != nil {
				return err
			}
			return api.ready(ctx)
		}
	case comp.name == containerd.name:
		return c.containerdAnswers(holder)
	case comp.health != "":
		return func(ctx context.Context) error { return getInside(ctx, holder, comp.health) }
	}
	return func(context.Context) error { return nil }
}

// getInside asks for http://127.0.0.1:WHERE in the holder's network namespace and wants 200.
func getInside(ctx context.Context, holder process, where string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	port, path, _ := strings.Cut(where, "/")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialInside(holder.Pid, unix.CLONE_NEWNET)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("brief", "true") // Cilium: only whether it is well, not why
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return nil
}
