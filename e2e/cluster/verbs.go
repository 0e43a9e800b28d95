package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"weightlock.dev/e2e/cluster/internal/artifacts"
	"weightlock.dev/e2e/cluster/internal/cluster"
	"weightlock.dev/e2e/cluster/internal/progress"
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
		{"selftest", "[--keep] [--dual-stack]", "make a cluster, use it, break it, mend it, remove it, compare the host", runSelftest},
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
  --dual-stack                  IPv6 beside IPv4 for nodes, pods and Services
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
