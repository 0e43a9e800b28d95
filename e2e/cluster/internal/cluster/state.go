package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"weightlock.dev/e2e/cluster/internal/artifacts"
	"weightlock.dev/e2e/cluster/internal/progress"
)

// The phases of a cluster. One that is not "up" was interrupted or failed on its way there.
const (
	phaseStarting = "starting"
	phaseUp       = "up"
	phaseFailed   = "failed"
)

const controlPlane = "control-plane"

// state is what the file state.json of a cluster holds.
type state struct {
	Options
	Phase string `json:"phase"`
	// Sysctls are the machine's values from before the cluster.
	Sysctls map[string]string       `json:"sysctls"`
	Members map[string]*memberState `json:"members"`
}

// memberState is the registry of the processes of one member.
type memberState struct {
	Holder    process            `json:"holder"`
	Processes map[string]process `json:"processes"`
	// Booted is when the holder was started, in whole seconds as Kubernetes writes times.
	Booted time.Time `json:"booted"`
	// Stopped says that "node stop" ended this member, Partitioned that "node partition" cut it off.
	Stopped     bool `json:"stopped,omitempty"`
	Partitioned bool `json:"partitioned,omitempty"`
}

// Cluster is one cluster of this machine, existing or not.
type Cluster struct {
	name string
	dir  string
	set  *artifacts.Set
	log  *progress.Log

	mu     sync.Mutex // guards state and its file while nodes come up side by side
	state  state
	exists bool
	client *apiClient
}

// ErrNoCluster says that no cluster of that name exists.
var ErrNoCluster = errors.New("does not exist: run `up` first")

// Open reads what is known about the cluster called name. It may not exist. set may be nil for verbs that start nothing.
func Open(name string, set *artifacts.Set, log *progress.Log) (*Cluster, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	root, err := StateRoot()
	if err != nil {
		return nil, err
	}
	c := &Cluster{name: name, dir: filepath.Join(root, name), set: set, log: log}
	return c, c.load()
}

// load reads the state file. One that cannot be read counts as a cluster to be taken down: its phase is "failed".
func (c *Cluster) load() error {
	raw, err := os.ReadFile(c.path("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		_, statErr := os.Stat(c.dir)
		c.exists = statErr == nil
		c.state = state{Options: Options{Name: c.name}, Phase: phaseFailed}
		return nil
	} else if err != nil {
		return err
	}
	c.exists = true
	c.state = state{}
	if err := json.Unmarshal(raw, &c.state); err != nil {
		c.log.Printf("%s: %v: the cluster will be made anew", c.path("state.json"), err)
		c.state = state{Options: Options{Name: c.name}, Phase: phaseFailed}
	}
	return nil
}

// update changes the state and writes it down.
func (c *Cluster) update(change func(*state)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.state)
	raw, err := json.MarshalIndent(&c.state, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(c.path("state.json"), append(raw, '\n'), 0o600)
}

// member gives a copy of what is known about a member; the zero value if nothing is.
func (c *Cluster) member(name string) memberState {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.state.Members[name]
	if m == nil {
		return memberState{}
	}
	copied := *m
	copied.Processes = make(map[string]process, len(m.Processes))
	for k, v := range m.Processes {
		copied.Processes[k] = v
	}
	return copied
}

// updateMember changes what is known about a member and writes it down.
func (c *Cluster) updateMember(name string, change func(*memberState)) error {
	return c.update(func(s *state) {
		m := s.Members[name]
		if m == nil {
			m = &memberState{Processes: map[string]process{}}
			if s.Members == nil {
				s.Members = map[string]*memberState{}
			}
			s.Members[name] = m
		}
		change(m)
	})
}

// path is a path in the cluster's state directory.
func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *Cluster) logFile(member, component string) string {
	return c.path(member, "log", component+".log")
}

// nodes are the numbers of the cluster's nodes, from 1 on.
func (c *Cluster) nodes() []int {
	if c.state.ControlPlaneOnly {
		return nil
	}
	list := make([]int, c.state.Nodes)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

// Running refuses a cluster that does not exist, did not come up, or has ended.
func (c *Cluster) Running() error {
	if !c.exists {
		return fmt.Errorf("cluster %s %w", c.name, ErrNoCluster)
	}
	if c.state.Phase != phaseUp || !c.member(controlPlane).Holder.alive() {
		return fmt.Errorf("cluster %s did not come up or has ended: run `up` to make it anew; logs are below %s", c.name, c.dir)
	}
	return nil
}

// checkNode refuses the number of a node that the cluster does not have.
func (c *Cluster) checkNode(i int) error {
	if err := c.Running(); err != nil {
		return err
	}
	if n := len(c.nodes()); i < 1 || i > n {
		return fmt.Errorf("node %d: cluster %s has nodes 1 to %d", i, c.name, n)
	}
	return nil
}

// Lock keeps all other programs from changing this cluster until the returned function is called. It waits for them.
func (c *Cluster) Lock(ctx context.Context) (func(), error) {
	name := filepath.Join(filepath.Dir(c.dir), "."+c.name+".lock")
	f, err := lockFile(ctx, name, func() {
		c.log.Printf("waiting for another program that is changing cluster %s (it holds %s)", c.name, name)
	})
	if err != nil {
		return nil, err
	}
	return func() { unlock(f, true) }, c.load()
}
