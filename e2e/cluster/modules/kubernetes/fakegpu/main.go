// Command fakegpu is a kubelet device plugin without devices. It advertises extended resources as GPU vendors do and
// gives each container the ids of what it was allocated in NVIDIA_VISIBLE_DEVICES, so that GPU pods schedule, are
// allocated and start on machines that have no GPU.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// resources collects the repeated -resource flags.
type resources []resource

// resource is an extended resource and how many of it the node has.
type resource struct {
	name  string
	count int
}

func (r *resources) String() string { return fmt.Sprint(*r) }

func (r *resources) Set(text string) error {
	name, number, ok := strings.Cut(text, "=")
	count, err := strconv.Atoi(number)
	if !ok || err != nil || count < 0 || !strings.Contains(name, "/") {
		return fmt.Errorf("want domain/name=count, for example nvidia.com/gpu=8")
	}
	*r = append(*r, resource{name, count})
	return nil
}

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	var wanted resources
	dir := flag.String("dir", "/var/lib/kubelet/device-plugins", "directory in which the kubelet and its plugins have their sockets")
	node := flag.String("node", "", "name of the node, part of every device id (default: the host name)")
	flag.Var(&wanted, "resource", "`domain/name=count` to advertise; repeat for more (default nvidia.com/gpu=8 and nvidia.com/mig-1g.10gb=4)")
	flag.Parse()
	if len(wanted) == 0 {
		wanted = resources{{"nvidia.com/gpu", 8}, {"nvidia.com/mig-1g.10gb", 4}}
	}
	if *node == "" {
		host, err := os.Hostname()
		if err != nil {
			log.Fatalf("no host name (%v): give -node", err)
		}
		*node = host
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var wg sync.WaitGroup
	for _, r := range wanted {
		wg.Add(1)
		go func() {
			defer wg.Done()
			newPlugin(*dir, *node, r).run(ctx)
		}()
	}
	wg.Wait()
}
