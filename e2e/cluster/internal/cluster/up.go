package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// The limits after which up gives up on a part. They are generous because machines that run tests are busy.
const (
	apiLimit  = 120 * time.Second
	nodeLimit = 180 * time.Second
)

// Up makes the cluster run as the options say. A cluster that runs well is left as it is; ended components and nodes
// of one that came up before are started again; one that never came up is made anew. given names the options that a
// person wrote down: those must fit a cluster that runs. When ctx ends, a cluster that was being made is removed.
func (c *Cluster) Up(ctx context.Context, o Options, given map[string]bool) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if err := o.checkKernel(); err != nil {
		return err
	}
	if err := visibleInNodes(c.set.Root, "WEIGHTLOCK_E2E_CACHE"); err != nil {
		return err
	}
	unlock, err := c.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if c.Running() == nil {
		if err := c.sameOptions(o, given); err != nil {
			return err
		}
		if err := c.raiseSysctls(ctx); err != nil {
			return err
		}
		return c.repair(ctx)
	}
	if c.remains() {
		c.log.Printf("cluster %s did not come up last time or has ended: removing what is left", c.name)
		if err := c.teardown(); err != nil {
			return err
		}
	}
	err = c.create(ctx, o)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		c.log.Printf("interrupted: removing what was started")
		return errors.Join(ctx.Err(), c.teardown())
	}
	// The logs stay for the reader of the error; nothing runs on.
	return errors.Join(err, c.endProcesses(), c.update(func(s *state) { s.Phase = phaseFailed }))
}

// sameOptions refuses to change a running cluster.
func (c *Cluster) sameOptions(o Options, given map[string]bool) error {
	now := c.state.Options
	for _, d := range []struct {
		flag      string
		want, has any
	}{
		{"nodes", o.Nodes, now.Nodes},
		{"control-plane-only", o.ControlPlaneOnly, now.ControlPlaneOnly},
		{"policy-enforcement", o.PolicyEnforcement, now.PolicyEnforcement},
		{"api-port", o.APIPort, now.APIPort},
		{"webhook-port", o.WebhookPort, now.WebhookPort},
		{"audit-log", o.AuditLog, now.AuditLog},
		{"dual-stack", o.DualStack, now.DualStack},
	} {
		if given[d.flag] && d.want != d.has && !(d.flag == "api-port" && o.APIPort == 0) {
			return fmt.Errorf("cluster %s runs with --%s=%v, not %v: run `down --name %s` first, or choose another --name", c.name, d.flag, d.has, d.want, c.name)
		}
	}
	return nil
}

// create makes the cluster from nothing.
func (c *Cluster) create(ctx context.Context, o Options) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	c.exists, c.client = true, nil
	err := c.update(func(s *state) { *s = state{Options: o, Phase: phaseStarting, Sysctls: readSysctls()} })
	if err != nil {
		return err
	}
	if err := c.raiseSysctls(ctx); err != nil {
		return err
	}
	step := c.log.Step("start control plane", 4*time.Second)
	err = c.createControlPlane(ctx)
	step.Done(err)
	if err != nil {
		return err
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	return c.update(func(s *state) { s.Phase = phaseUp })
}

// createControlPlane brings the API server up and, side by side, the container runtime of each node.
func (c *Cluster) createControlPlane(ctx context.Context) error {
	if err := c.issueControlPlane(); err != nil {
		return err
	}
	if err := c.startControlPlaneMember(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := []func() error{func() error { return c.startAPI(ctx) }}
	for _, i := range c.nodes() {
		work = append(work, func() error { return c.bootNode(ctx, i) })
	}
	for n, fn := range work {
		work[n] = func() error {
			err := fn()
			if err != nil {
				cancel() // the others need not go on
			}
			return err
		}
	}
	return withoutCanceled(parallel(work...))
}

// withoutCanceled leaves out of joined errors those that only say that another one stopped the work.
func withoutCanceled(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var rest []error
	for _, e := range joined.Unwrap() {
		if !errors.Is(e, context.Canceled) {
			rest = append(rest, e)
		}
	}
	if len(rest) == 0 {
		return err
	}
	return errors.Join(rest...)
}

// startAPI starts etcd and the API server, waits until it serves, then starts what needs it at once.
func (c *Cluster) startAPI(ctx context.Context) error {
	for _, comp := range []component{etcd, apiserver, apiForwarder} {
		if err := c.start(controlPlane, comp); err != nil {
			return err
		}
	}
	if err := c.writeKubeconfig(); err != nil {
		return err
	}
	if err := c.waitForAPI(ctx); err != nil {
		return err
	}
	for _, comp := range c.controlPlaneComponents() {
		if err := c.start(controlPlane, comp); err != nil {
			return err
		}
	}
	return nil
}

// waitForAPI waits for the API server. A dead etcd shows only as an API server that never gets ready.
func (c *Cluster) waitForAPI(ctx context.Context) error {
	check := c.healthy(controlPlane, apiserver)
	return c.waitFor(ctx, controlPlane, apiserver, apiLimit, func(ctx context.Context) error {
		err := check(ctx)
		if err != nil && !c.member(controlPlane).Processes[etcd.name].alive() {
			return &failure{what: "etcd", err: errEnded, log: c.logFile(controlPlane, etcd.name)}
		}
		return err
	})
}

// finish brings a cluster whose API serves and whose nodes have booted to where pods can run.
func (c *Cluster) finish(ctx context.Context) error {
	if c.state.ControlPlaneOnly {
		return c.waitForPods(ctx)
	}
	step := c.log.Step(fmt.Sprintf("start %d nodes", len(c.nodes())), 10*time.Second)
	err := c.joinNodes(ctx)
	step.Done(err)
	if err != nil {
		return err
	}
	step = c.log.Step("start cluster DNS", 5*time.Second)
	err = c.waitForPods(ctx)
	step.Done(err)
	return err
}

// waitForPods waits until pods can be made and, on nodes, find each other by name.
func (c *Cluster) waitForPods(ctx context.Context) error {
	err := c.poll(ctx, "default service account", apiLimit, c.serviceAccountsReady, c.logFile(controlPlane, controllerManager.name))
	if err != nil || c.state.ControlPlaneOnly {
		return err
	}
	return c.poll(ctx, "CoreDNS", nodeLimit, c.dnsReady, c.logFile(nodeName(1), kubelet.name))
}

// joinNodes registers the nodes, starts their components and waits until they are Ready.
func (c *Cluster) joinNodes(ctx context.Context) error {
	work := []func() error{
		func() error { return c.applyNetworkCRDs(ctx) },
		func() error { return c.applyDNS(ctx) },
	}
	for _, i := range c.nodes() {
		work = append(work, func() error {
			if err := c.registerNode(ctx, i); err != nil {
				return err
			}
			return c.startNodeComponents(ctx, i)
		})
	}
	if err := parallel(work...); err != nil {
		return err
	}
	return c.waitForNodes(ctx)
}

// waitForComponents waits until every component says itself that it is well.
func (c *Cluster) waitForComponents(ctx context.Context) error {
	for _, m := range c.memberNames() {
		for _, comp := range c.components(m) {
			if err := c.waitFor(ctx, m, comp, nodeLimit, c.healthy(m, comp)); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitForNodes waits until all nodes are Ready. When one is not in time, the error names the likeliest log.
func (c *Cluster) waitForNodes(ctx context.Context) error {
	return c.poll(ctx, "nodes", nodeLimit, func(ctx context.Context) error {
		err := c.nodesReady(ctx)
		if err == nil {
			return nil
		}
		for _, m := range c.memberNames() {
			state := c.member(m)
			for _, comp := range c.components(m) {
				if p := state.Processes[comp.name]; !state.Stopped && !p.alive() {
					return &failure{what: comp.name + " on " + m, err: errEnded, log: c.logFile(m, comp.name)}
				}
			}
		}
		return err
	}, c.logFile(nodeName(1), cilium.name))
}

// repair starts again what has ended of a cluster that came up before.
func (c *Cluster) repair(ctx context.Context) error {
	repaired := false
	for _, m := range c.memberNames() {
		i, before := nodeNumber(m), c.member(m)
		if m != controlPlane && !before.Holder.alive() {
			c.log.Printf("%s is down: starting it", m)
			if err := c.startNode(ctx, i); err != nil {
				return err
			}
			repaired = true
			continue
		}
		if before.Partitioned {
			if err := c.heal(ctx, i); err != nil {
				return err
			}
			repaired = true
		}
		for _, comp := range c.components(m) {
			if before.Processes[comp.name].alive() {
				continue
			}
			c.log.Printf("%s on %s is down: starting it", comp.name, m)
			if err := c.start(m, comp); err != nil {
				return err
			}
			repaired = true
		}
		if m == controlPlane {
			if err := c.waitForAPI(ctx); err != nil {
				return err
			}
		}
	}
	if repaired {
		if err := c.waitForComponents(ctx); err != nil {
			return err
		}
	}
	if err := c.waitForNodes(ctx); err != nil {
		return err
	}
	if err := c.waitForPods(ctx); err != nil {
		return err
	}
	if !repaired {
		c.log.Printf("cluster %s was running already", c.name)
	}
	return nil
}
