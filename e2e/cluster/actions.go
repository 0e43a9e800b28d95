package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"weightlock.dev/e2e/cluster/internal/artifacts"
	"weightlock.dev/e2e/cluster/internal/cluster"
	"weightlock.dev/e2e/cluster/internal/selftest"
)

func upFlags(a *app, o *cluster.Options) *flag.FlagSet {
	fs := a.flags("up")
	fs.IntVar(&o.Nodes, "nodes", o.Nodes, "")
	fs.BoolVar(&o.ControlPlaneOnly, "control-plane-only", false, "")
	fs.StringVar(&o.PolicyEnforcement, "policy-enforcement", o.PolicyEnforcement, "")
	fs.IntVar(&o.APIPort, "api-port", 0, "")
	fs.IntVar(&o.WebhookPort, "webhook-port", 0, "")
	fs.BoolVar(&o.AuditLog, "audit-log", false, "")
	fs.BoolVar(&o.DualStack, "dual-stack", false, "")
	return fs
}

func runUp(ctx context.Context, a *app, args []string) error {
	o := cluster.DefaultOptions()
	fs := upFlags(a, &o)
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	o.Name = a.name
	if err := o.Validate(); err != nil {
		return usageError{err}
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	c, _, err := a.openBuilt(ctx)
	if err != nil {
		return err
	}
	if err := c.Up(ctx, o, given); err != nil {
		return err
	}
	c.Describe(a.log.Printf)
	return nil
}

func runDown(ctx context.Context, a *app, args []string) error {
	if _, err := parse(a.flags("down"), args, 0, 0); err != nil {
		return err
	}
	c, err := a.open()
	if err != nil {
		return err
	}
	return c.Down(ctx)
}

func runStatus(ctx context.Context, a *app, args []string) error {
	if _, err := parse(a.flags("status"), args, 0, 0); err != nil {
		return err
	}
	c, err := a.open()
	if err != nil {
		return err
	}
	return c.Status(ctx, os.Stdout)
}

func runList(_ context.Context, a *app, args []string) error {
	if _, err := parse(a.flags("list"), args, 0, 0); err != nil {
		return err
	}
	names, err := cluster.List()
	for _, n := range names {
		fmt.Println(n)
	}
	return err
}

func runKubeconfig(_ context.Context, a *app, args []string) error {
	if _, err := parse(a.flags("kubeconfig"), args, 0, 0); err != nil {
		return err
	}
	c, err := a.open()
	if err != nil {
		return err
	}
	if err := c.Running(); err != nil {
		return err
	}
	fmt.Println(c.Kubeconfig())
	return nil
}

// runTool becomes one of the built programs, with KUBECONFIG set. Its arguments are all its own, but for a leading --name.
func runTool(tool string) func(context.Context, *app, []string) error {
	return func(ctx context.Context, a *app, args []string) error {
		args, err := a.takeName(args)
		if err != nil {
			return err
		}
		c, set, err := a.openBuilt(ctx)
		if err != nil {
			return err
		}
		if err := c.Running(); err != nil {
			return err
		}
		env := append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "PATH="+os.Getenv("PATH")+":"+set.Bin)
		err = syscall.Exec(filepath.Join(set.Bin, tool), append([]string{tool}, args...), env)
		return fmt.Errorf("%s: %w", tool, err)
	}
}

func runLoad(ctx context.Context, a *app, args []string) error {
	archives, err := parse(a.flags("load"), args, 1, -1)
	if err != nil {
		return err
	}
	c, _, err := a.openBuilt(ctx)
	if err != nil {
		return err
	}
	return load(ctx, c, archives)
}

func load(ctx context.Context, c *cluster.Cluster, archives []string) error {
	names, err := c.Load(ctx, archives)
	for _, n := range names {
		fmt.Println(n)
	}
	return err
}

func runImages(ctx context.Context, a *app, args []string) error {
	if _, err := parse(a.flags("images"), args, 0, 0); err != nil {
		return err
	}
	c, _, err := a.openBuilt(ctx)
	if err != nil {
		return err
	}
	if err := c.Running(); err != nil {
		return err
	}
	archives, err := artifacts.ProductImages(ctx, filepath.Join(a.source, "..", ".."), a.log)
	if err != nil {
		return err
	}
	return load(ctx, c, archives)
}

func runBuild(ctx context.Context, a *app, args []string) error {
	if _, err := parse(a.flags("build"), args, 0, 0); err != nil {
		return err
	}
	set, err := a.set(ctx)
	if err != nil {
		return err
	}
	fmt.Println(set.Root)
	return nil
}

func runSelftest(ctx context.Context, a *app, args []string) error {
	fs := a.flags("selftest")
	var o selftest.Options
	fs.BoolVar(&o.Keep, "keep", false, "")
	fs.BoolVar(&o.DualStack, "dual-stack", false, "")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	set, err := a.set(ctx)
	if err != nil {
		return err
	}
	return selftest.Run(ctx, set, a.log, o)
}

func runNode(ctx context.Context, a *app, args []string) error {
	rest, err := parse(a.flags("node"), args, 2, 2)
	if err != nil {
		return err
	}
	i, err := strconv.Atoi(strings.TrimPrefix(rest[1], "node"))
	if err != nil {
		return usagef("node %s %q: the node is a number from 1 on", rest[0], rest[1])
	}
	if rest[0] == "path" {
		c, err := a.open()
		if err != nil {
			return err
		}
		path, err := c.CheckWeights(i)
		if err == nil {
			fmt.Println(path)
		}
		return err
	}
	actions := map[string]func(*cluster.Cluster) error{
		"stop":      func(c *cluster.Cluster) error { return c.StopNode(i) },
		"start":     func(c *cluster.Cluster) error { return c.StartNode(ctx, i) },
		"partition": func(c *cluster.Cluster) error { return c.PartitionNode(ctx, i) },
		"heal":      func(c *cluster.Cluster) error { return c.HealNode(ctx, i) },
	}
	action, ok := actions[rest[0]]
	if !ok {
		return usagef("node %q: use stop, start, partition, heal or path", rest[0])
	}
	return a.locked(ctx, action)
}

func runComponent(ctx context.Context, a *app, args []string) error {
	fs := a.flags("component")
	node := fs.Int("node", 0, "")
	rest, err := parse(fs, args, 2, 2)
	if err != nil {
		return err
	}
	switch rest[0] {
	case "kill":
		return a.locked(ctx, func(c *cluster.Cluster) error { return c.KillComponent(rest[1], *node) })
	case "start":
		return a.locked(ctx, func(c *cluster.Cluster) error { return c.StartComponent(ctx, rest[1], *node) })
	}
	return usagef("component %q: use kill or start", rest[0])
}

// locked does something to the cluster while no other program may.
func (a *app) locked(ctx context.Context, action func(*cluster.Cluster) error) error {
	c, _, err := a.openBuilt(ctx)
	if err != nil {
		return err
	}
	unlock, err := c.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return action(c)
}

func runLogs(ctx context.Context, a *app, args []string) error {
	fs := a.flags("logs")
	node := fs.Int("node", 0, "")
	follow := fs.Bool("f", false, "")
	rest, err := parse(fs, args, 0, 1)
	if err != nil {
		return err
	}
	c, err := a.open()
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return c.ListLogs(os.Stdout)
	}
	files, err := c.LogFiles(rest[0], *node)
	if err != nil {
		return err
	}
	return cluster.CopyLogs(ctx, os.Stdout, files, *follow)
}
