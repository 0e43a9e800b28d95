package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
)

// Entry is one file, directory or symbolic link of an image. Missing parent directories are added with mode 0755.
type Entry struct {
	path   string
	kind   byte
	mode   fs.FileMode
	source string
	data   []byte
	link   string
}

// File is a copy of the file source, with mode 0755 when its owner may execute it, else 0644.
func File(path, source string) Entry { return Entry{path: path, kind: tar.TypeReg, source: source} }

// Data is a file of the given contents with mode 0644.
func Data(path string, data []byte) Entry {
	return Entry{path: path, kind: tar.TypeReg, mode: 0o644, data: data}
}

// Dir is a directory. Only the permission bits and fs.ModeSticky of mode count.
func Dir(path string, mode fs.FileMode) Entry {
	return Entry{path: path, kind: tar.TypeDir, mode: mode}
}

// Symlink is a symbolic link at path to target.
func Symlink(path, target string) Entry {
	return Entry{path: path, kind: tar.TypeSymlink, mode: 0o777, link: target}
}

// normalize checks the paths, adds the parents and sorts, so that a parent precedes what it holds.
func normalize(entries []Entry) ([]Entry, error) {
	byPath := map[string]Entry{}
	for _, e := range entries {
		if !path.IsAbs(e.path) || path.Clean(e.path) != e.path || e.path == "/" {
			return nil, fmt.Errorf("entry %q: want a clean absolute path below /", e.path)
		}
		if _, twice := byPath[e.path]; twice {
			return nil, fmt.Errorf("entry %q is there twice", e.path)
		}
		byPath[e.path] = e
	}
	for _, e := range entries {
		for dir := path.Dir(e.path); dir != "/"; dir = path.Dir(dir) {
			parent, known := byPath[dir]
			if known && parent.kind != tar.TypeDir {
				return nil, fmt.Errorf("entry %q lies below %q, which is no directory", e.path, dir)
			}
			if !known {
				byPath[dir] = Dir(dir, 0o755)
			}
		}
	}
	sorted := make([]Entry, 0, len(byPath))
	for _, e := range byPath {
		sorted = append(sorted, e)
	}
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].path < sorted[j].path })
	return sorted, nil
}

func writeLayer(w io.Writer, entries []Entry) (descriptor, error) {
	h := sha256.New()
	count := &counter{w: io.MultiWriter(w, h)}
	tw := tar.NewWriter(count)
	for _, e := range entries {
		if err := e.write(tw); err != nil {
			return descriptor{}, fmt.Errorf("entry %q: %w", e.path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return descriptor{}, err
	}
	return descriptor{MediaType: mediaLayer, Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Size: count.n}, nil
}

func (e Entry) write(tw *tar.Writer) error {
	var r io.Reader = bytes.NewReader(e.data)
	mode, size := e.mode, int64(len(e.data))
	if e.source != "" {
		f, err := os.Open(e.source)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", e.source)
		}
		r, size, mode = f, st.Size(), 0o644
		if st.Mode()&0o100 != 0 {
			mode = 0o755
		}
	}
	name := strings.TrimPrefix(e.path, "/")
	if e.kind == tar.TypeDir {
		name += "/"
	}
	hd := header(name, e.kind, mode, size)
	hd.Linkname = e.link
	if err := tw.WriteHeader(hd); err != nil {
		return err
	}
	_, err := io.Copy(tw, r)
	return err
}

// counter counts the bytes that pass to w.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
