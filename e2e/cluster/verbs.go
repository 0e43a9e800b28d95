package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"weightlock.dev/e2e/cluster/internal/artifacts"
	"weightlock.dev/e2e/cluster/internal/cluster"
	"weightlock.dev/e2e/cluster/internal/progress"
	"weightlock.dev/e2e/cluster/internal/selftest"
)

// app is what all verbs share.
type app struct {
	name   string
	source string
	log    *progress.Log
}

// verb is one thing that the program does.
type verb struct {
	name, args, help string
	run              func(ctx context.Context, a *app, args []string) error
}

func verbs() []verb {
	return []verb{
		{"up", "[flags]", "make the cluster, or repair it if something of it has ended", runUp},
		{"down", "", "remove the cluster and everything that belongs to it", runDown},
		{"status", "", "nodes, components, versions; exit code 1 if something is not well", runStatus},
		{"list", "", "the names of all clusters on this machine", runList},
		{"kubectl", "ARGS...", "kubectl against the cluster", runTool("kubectl")},
		{"helm", "ARGS...", "Helm against the cluster", runTool("helm")},
		{"kubeconfig", "", "print the path of a kubeconfig that works from this host", runKubeconfig},
		{"load", "IMAGE.tar...", "import image archives into every node and print the images' names", runLoad},
		{"images", "", "build Weightlock's own images from this checkout and load them", runImages},
		{"node", "stop|start|partition|heal|path N", "power, network cable, and host path of /mnt/weights of node N", runNode},
		{"component", "kill|start NAME [--node N]", "end a component with SIGKILL, or start it again", runComponent},
		{"logs", "[COMPONENT] [--node N] [-f]", "print or follow a component's log; without a name, list all logs", runLogs},
		{"conformance", "netpol [--negative] [--if-changed] [-- GINKGO FLAGS]", "the upstream NetworkPolicy suite; --negative: it fails without enforcement", runConformance},
		{"selftest", "[--keep]", "make a cluster, use it, break it, mend it, remove it, compare the host", runSelftest},
		{"build", "", "build all programs and images into the cache, as up does when they are missing", runBuild},
	}
}

const helpHead = `A real Kubernetes on this machine: etcd, API server, kubelets, containerd, runc, Cilium, CoreDNS.
Everything is built from package registries into a cache and runs in namespaces of its own.

usage: cluster [--name NAME] VERB [ARGUMENTS]

`

const helpTail = `
--name (default "weightlock") picks the cluster; several can run at once.
up flags:
  --nodes N                     how many nodes, 1 to 9 (default 2)
  --control-plane-only          etcd, API server and controller-manager, no nodes: up in seconds
  --webhook-port P              let the API server reach 127.0.0.1:P of this host as https://127.0.0.1:P/
  --api-port P                  loopback port of the API (default: a free one, which is kept)
  --policy-enforcement never    let Cilium ignore network policies (to see that a test can fail)
  --audit-log                   write an audit log, level Metadata, into the state directory

first steps:
  cluster up && cluster status
  cluster kubectl get pods -A
  cluster down

The cache is $WEIGHTLOCK_E2E_CACHE, else ~/.cache/weightlock-e2e; the state of running clusters
$WEIGHTLOCK_E2E_STATE, else ~/.local/state/weightlock-e2e. More in README.md beside the program's sources.
`

func writeHelp(w io.Writer) {
	fmt.Fprint(w, helpHead)
	for _, v := range verbs() {
		form := strings.TrimSpace(v.name + " " + v.args)
		if len(form) > 28 {
			fmt.Fprintf(w, "  %s\n  %-28s %s\n", form, "", v.help)
			continue
		}
		fmt.Fprintf(w, "  %-28s %s\n", form, v.help)
	}
	fmt.Fprint(w, helpTail)
}

// run does what the arguments say.
func run(ctx context.Context, args []string) error {
	a := &app{name: cluster.DefaultName, source: os.Getenv("WEIGHTLOCK_E2E_SOURCE"), log: progress.New(os.Stderr)}
	args, err := a.takeName(args)
	if err != nil {
		return err
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		writeHelp(os.Stdout)
		return nil
	}
	for _, v := range verbs() {
		if v.name != args[0] {
			continue
		}
		err := v.run(ctx, a, args[1:])
		if errors.Is(err, flag.ErrHelp) {
			fmt.Printf("usage: cluster [--name NAME] %s %s\n%s\n", v.name, v.args, v.help)
			if v.name == "up" {
				fmt.Print(helpTail)
			}
			return nil
		}
		return err
	}
	return usagef("%q is not a verb", args[0])
}

// takeName takes --name NAME from the front of the arguments, so that the rest can go to another program.
func (a *app) takeName(args []string) ([]string, error) {
	for len(args) > 0 {
		arg, value, joined := strings.Cut(args[0], "=")
		if arg != "--name" && arg != "-name" {
			break
		}
		args = args[1:]
		if !joined {
			if len(args) == 0 {
				return nil, usagef("--name wants the name of a cluster")
			}
			value, args = args[0], args[1:]
		}
		a.name = value
	}
	return args, nil
}

// flags makes the flag set of a verb, with --name in it.
func (a *app) flags(verb string) *flag.FlagSet {
	fs := flag.NewFlagSet(verb, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&a.name, "name", a.name, "")
	return fs
}

// parse reads flags wherever they stand and gives the other arguments, of which there must be least to most.
func parse(fs *flag.FlagSet, args []string, least, most int) ([]string, error) {
	var rest []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, usagef("%s: %v", fs.Name(), err)
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	if len(rest) < least {
		return nil, usagef("%s wants at least %d argument(s)", fs.Name(), least)
	}
	if most >= 0 && len(rest) > most {
		return nil, usagef("%s takes no argument %q", fs.Name(), rest[most])
	}
	return rest, nil
}

// set gives the built programs and images, building what is missing.
func (a *app) set(ctx context.Context) (*artifacts.Set, error) {
	if a.source == "" {
		return nil, errors.New("WEIGHTLOCK_E2E_SOURCE is not set: call this program through the script e2e/cluster/cluster")
	}
	return artifacts.Ensure(ctx, a.source, a.log)
}

// open gives the cluster for a verb that starts nothing, openBuilt for one that does.
func (a *app) open() (*cluster.Cluster, error) { return cluster.Open(a.name, nil, a.log) }

func (a *app) openBuilt(ctx context.Context) (*cluster.Cluster, *artifacts.Set, error) {
	set, err := a.set(ctx)
	if err != nil {
		return nil, nil, err
	}
	c, err := cluster.Open(a.name, set, a.log)
	return c, set, err
}

func upFlags(a *app, o *cluster.Options) *flag.FlagSet {
	fs := a.flags("up")
	fs.IntVar(&o.Nodes, "nodes", o.Nodes, "")
	fs.BoolVar(&o.ControlPlaneOnly, "control-plane-only", false, "")
	fs.StringVar(&o.PolicyEnforcement, "policy-enforcement", o.PolicyEnforcement, "")
	fs.IntVar(&o.APIPort, "api-port", 0, "")
	fs.IntVar(&o.WebhookPort, "webhook-port", 0, "")
	fs.BoolVar(&o.AuditLog, "audit-log", false, "")
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
	keep := fs.Bool("keep", false, "")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	set, err := a.set(ctx)
	if err != nil {
		return err
	}
	return selftest.Run(ctx, set, a.log, *keep)
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
