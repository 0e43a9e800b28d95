package cluster

import (
	"context"
	"fmt"
	"time"
)

// StopNode ends a node as a power cut would. Its disk stays.
func (c *Cluster) StopNode(i int) error {
	if err := c.checkNode(i); err != nil {
		return err
	}
	name := nodeName(i)
	if err := c.stopMember(name); err != nil {
		return err
	}
	c.log.Printf("%s: stopped; Kubernetes notices within about 20 s", name)
	return c.updateMember(name, func(m *memberState) {
		*m = memberState{Stopped: true, Processes: map[string]process{}}
	})
}

// StartNode boots a stopped node from its disk and waits until it is Ready.
func (c *Cluster) StartNode(ctx context.Context, i int) error {
	if err := c.checkNode(i); err != nil {
		return err
	}
	if c.member(nodeName(i)).Holder.alive() {
		c.log.Printf("%s: was running already", nodeName(i))
		return nil
	}
	begin := time.Now()
	if err := c.startNode(ctx, i); err != nil {
		return err
	}
	if err := c.waitForNodes(ctx); err != nil {
		return err
	}
	c.log.Printf("%s: Ready after %.1f s", nodeName(i), time.Since(begin).Seconds())
	return nil
}

func (c *Cluster) startNode(ctx context.Context, i int) error {
	// The node may have ended by itself and left cgroups behind.
	if err := c.stopMember(nodeName(i)); err != nil {
		return err
	}
	if err := c.bootNode(ctx, i); err != nil {
		return err
	}
	if err := c.registerNode(ctx, i); err != nil {
		return err
	}
	return c.startNodeComponents(ctx, i)
}

// PartitionNode pulls the network cable of a node: neither the control plane nor other nodes reach it.
func (c *Cluster) PartitionNode(ctx context.Context, i int) error {
	if err := c.checkNode(i); err != nil {
		return err
	}
	name := nodeName(i)
	if !c.member(name).Holder.alive() {
		return fmt.Errorf("%s is stopped: there is nothing to cut off", name)
	}
	if err := c.ip(ctx, c.member(controlPlane).Holder, "link set "+nodeLink(i)+" down"); err != nil {
		return err
	}
	c.log.Printf("%s: cut off; Kubernetes notices within about 20 s", name)
	return c.updateMember(name, func(m *memberState) { m.Partitioned = true })
}

// HealNode plugs the cable in again and waits until the node is Ready.
func (c *Cluster) HealNode(ctx context.Context, i int) error {
	if err := c.checkNode(i); err != nil {
		return err
	}
	begin := time.Now()
	if err := c.heal(ctx, i); err != nil {
		return err
	}
	if err := c.waitForNodes(ctx); err != nil {
		return err
	}
	c.log.Printf("%s: Ready %.1f s after it was connected again", nodeName(i), time.Since(begin).Seconds())
	return nil
}

func (c *Cluster) heal(ctx context.Context, i int) error {
	if err := c.ip(ctx, c.member(controlPlane).Holder, "link set "+nodeLink(i)+" up"); err != nil {
		return err
	}
	return c.updateMember(nodeName(i), func(m *memberState) { m.Partitioned = false })
}
