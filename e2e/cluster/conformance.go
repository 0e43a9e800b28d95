package main

import (
	"context"
	"errors"
	"slices"

	"weightlock.dev/e2e/cluster/internal/artifacts"
	"weightlock.dev/e2e/cluster/internal/cluster"
	"weightlock.dev/e2e/cluster/internal/conformance"
)

// conformanceCluster is the cluster that a conformance run makes for itself when the named one cannot serve.
const conformanceCluster = "conformance"

func runConformance(ctx context.Context, a *app, args []string) error {
	var ginkgo []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, ginkgo = args[:i], args[i+1:]
	}
	fs := a.flags("conformance")
	negative := fs.Bool("negative", false, "")
	ifChanged := fs.Bool("if-changed", false, "")
	rest, err := parse(fs, args, 1, 1)
	if err != nil {
		return err
	}
	if rest[0] != "netpol" {
		return usagef("conformance %q: use netpol", rest[0])
	}
	if *negative && len(ginkgo) > 0 {
		return usagef("conformance netpol --negative runs fixed specs and takes no flags for ginkgo")
	}
	o := cluster.DefaultOptions()
	if *negative {
		o.PolicyEnforcement = "never"
	}
	c, set, err := a.openBuilt(ctx)
	if err != nil {
		return err
	}
	if *ifChanged {
		when, ok, err := conformance.Proved(set, *negative)
		if err != nil {
			return err
		}
		if ok {
			a.log.Printf("conformance netpol: nothing that it depends on changed since %s", when)
			return nil
		}
	}
	if c.Running() != nil || !c.Serves(o) {
		a.log.Printf("cluster %s does not run, single-stack, with policy enforcement %q: making one named %s for this run", a.name, o.PolicyEnforcement, conformanceCluster)
		return a.withCluster(ctx, conformanceCluster, o, set, func(c *cluster.Cluster) error {
			return runNetpol(ctx, a, c, set, *negative, ginkgo)
		})
	}
	return runNetpol(ctx, a, c, set, *negative, ginkgo)
}

func runNetpol(ctx context.Context, a *app, c *cluster.Cluster, set *artifacts.Set, negative bool, ginkgo []string) error {
	if negative {
		return conformance.NetpolNegative(ctx, set, c.Kubeconfig(), a.log)
	}
	return conformance.Netpol(ctx, set, c.Kubeconfig(), a.log, ginkgo...)
}

// withCluster makes a cluster, does something with it and removes it, whatever happens.
func (a *app) withCluster(ctx context.Context, name string, o cluster.Options, set *artifacts.Set, use func(*cluster.Cluster) error) error {
	o.Name = name
	c, err := cluster.Open(name, set, a.log)
	if err != nil {
		return err
	}
	if err := c.Down(ctx); err != nil {
		return err
	}
	err = c.Up(ctx, o, nil)
	if err == nil {
		err = use(c)
	}
	return errors.Join(err, c.Down(context.WithoutCancel(ctx)))
}
