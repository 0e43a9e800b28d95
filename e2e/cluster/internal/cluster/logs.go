package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// LogFiles gives the log of a component, on every node if node is 0. It works for a cluster that did not come up, too.
func (c *Cluster) LogFiles(name string, node int) ([]string, error) {
	if !c.exists {
		return nil, fmt.Errorf("cluster %s %w", c.name, ErrNoCluster)
	}
	_, members, err := c.find(name, node)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, m := range members {
		file := c.logFile(m, name)
		if _, err := os.Stat(file); err == nil {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has not been started and has no log below %s", name, c.dir)
	}
	return files, nil
}

// ListLogs writes which logs there are.
func (c *Cluster) ListLogs(w io.Writer) error {
	if !c.exists {
		return fmt.Errorf("cluster %s %w", c.name, ErrNoCluster)
	}
	files, err := filepath.Glob(c.path("*", "log", "*.log"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%d KiB\t%s\n", filepath.Base(filepath.Dir(filepath.Dir(f))), (info.Size()+1023)>>10, f)
	}
	return t.Flush()
}

// CopyLogs writes the files one after the other; with follow it goes on with what is added until ctx ends.
func CopyLogs(ctx context.Context, w io.Writer, files []string, follow bool) error {
	open := make([]*os.File, len(files))
	for i, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		open[i] = f
	}
	for last := -1; ; {
		for i, f := range open {
			raw, err := io.ReadAll(f)
			if err != nil && !errors.Is(err, fs.ErrClosed) {
				return err
			}
			if len(raw) == 0 {
				continue
			}
			if len(open) > 1 && i != last {
				fmt.Fprintf(w, "==> %s <==\n", files[i])
				last = i
			}
			if _, err := w.Write(raw); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(300 * time.Millisecond):
		}
	}
}
