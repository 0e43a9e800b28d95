package cluster

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// baseImages are imported into every node when it first boots, in this order: pods need the first, DNS the second.
var baseImages = []string{"pause.tar", "coredns.tar", "agnhost.tar", "model-server.tar"}

// importBaseImages imports the images of the set unless the node's disk has them already.
func (c *Cluster) importBaseImages(ctx context.Context, member string) error {
	mark := c.path(member, "imported")
	if have, err := os.ReadFile(mark); err == nil && string(have) == c.set.Root {
		return nil
	}
	for _, name := range baseImages {
		if err := c.importImage(ctx, member, filepath.Join(c.set.Images, name)); err != nil {
			return err
		}
	}
	return writeFile(mark, []byte(c.set.Root), 0o644)
}

// importImage loads one archive into a node's containerd, for the kubelet. It passes the archive as standard input:
// the node may not see the directory it lies in.
func (c *Cluster) importImage(ctx context.Context, member, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := c.nodeProgram("ctr", "--address="+containerdSocket, "--namespace=k8s.io", "images", "import", "-")
	cmd.Stdin = f
	if _, err := runInside(ctx, c.member(member).Holder, cmd); err != nil {
		return fmt.Errorf("import %s on %s: %w", archive, member, err)
	}
	return nil
}

// Load imports image archives into every running node and gives the names of the images.
func (c *Cluster) Load(ctx context.Context, archives []string) ([]string, error) {
	if err := c.Running(); err != nil {
		return nil, err
	}
	if c.state.ControlPlaneOnly {
		return nil, fmt.Errorf("cluster %s has no nodes that could hold images", c.name)
	}
	var names []string
	for _, archive := range archives {
		found, err := imageNames(archive)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", archive, err)
		}
		names = append(names, found...)
	}
	var work []func() error
	for _, i := range c.nodes() {
		if !c.member(nodeName(i)).Holder.alive() {
			c.log.Printf("%s is stopped and gets no images", nodeName(i))
			continue
		}
		work = append(work, func() error {
			for _, archive := range archives {
				if err := c.importImage(ctx, nodeName(i), archive); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return names, parallel(work...)
}

// imageNames reads from an OCI or Docker archive what its images are called.
func imageNames(archive string) ([]string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("not an image archive: %w", err)
		}
		switch strings.TrimPrefix(header.Name, "./") {
		case "index.json":
			var index struct {
				Manifests []struct{ Annotations map[string]string }
			}
			if err := json.NewDecoder(r).Decode(&index); err != nil {
				return nil, fmt.Errorf("index.json: %w", err)
			}
			for _, m := range index.Manifests {
				if name := m.Annotations["io.containerd.image.name"]; name != "" {
					names = append(names, name)
				}
			}
		case "manifest.json":
			var manifest []struct{ RepoTags []string }
			if err := json.NewDecoder(r).Decode(&manifest); err != nil {
				return nil, fmt.Errorf("manifest.json: %w", err)
			}
			for _, m := range manifest {
				names = append(names, m.RepoTags...)
			}
		}
	}
	if len(names) == 0 {
		return nil, errors.New("names no image: an OCI archive needs the annotation io.containerd.image.name in its index.json")
	}
	slices.Sort(names)
	return slices.Compact(names), nil // an archive may be of both kinds and name its images twice
}
