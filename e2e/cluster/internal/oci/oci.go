// Package oci writes container images as OCI image layout archives, without a container engine or a registry.
//
// The bytes are reproducible: entries are sorted, times are the epoch, owners are root, permissions do not depend on
// the umask, and the one layer is left uncompressed because compressors differ between versions.
package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// The media types and annotation keys of the OCI image specification that are used here. containerd takes the name
// of an imported image from nameAnnotation.
const (
	mediaIndex    = "application/vnd.oci.image.index.v1+json"
	mediaManifest = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig   = "application/vnd.oci.image.config.v1+json"
	mediaLayer    = "application/vnd.oci.image.layer.v1.tar"

	nameAnnotation = "io.containerd.image.name"
	refAnnotation  = "org.opencontainers.image.ref.name"

	epoch = "1970-01-01T00:00:00Z"
)

// Image is what an archive is made from.
type Image struct {
	// Name is the full reference with a tag, for example "registry.invalid/e2e/pause:1".
	Name    string
	Config  Config
	Entries []Entry
}

// Config is how a container of the image runs unless its pod says otherwise. PATH is set when Env does not set it.
type Config struct {
	Entrypoint, Cmd, Env []string
	// User is a user id, or "uid:gid". Empty means root.
	User    string
	WorkDir string
}

// Info describes a written archive.
type Info struct {
	// Digest of the image's manifest, "sha256:...".
	Digest string
	// LayerSize is the size of the files as a tar, in bytes; ArchiveSize that of the whole archive.
	LayerSize, ArchiveSize int64
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type imageConfig struct {
	Created string `json:"created"`
	platform
	Config  runConfig `json:"config"`
	RootFS  rootFS    `json:"rootfs"`
	History []history `json:"history"`
}

type runConfig struct {
	User       string   `json:"User,omitempty"`
	Env        []string `json:"Env,omitempty"`
	Entrypoint []string `json:"Entrypoint,omitempty"`
	Cmd        []string `json:"Cmd,omitempty"`
	WorkingDir string   `json:"WorkingDir,omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by"`
}

// Write makes the archive at path. An existing file is replaced at once or not at all.
func Write(path string, img Image) (Info, error) {
	info, err := write(path, img)
	if err != nil {
		return Info{}, fmt.Errorf("write image %s to %s: %w", img.Name, path, err)
	}
	return info, nil
}

func write(path string, img Image) (info Info, err error) {
	tag, err := tagOf(img.Name)
	if err != nil {
		return info, err
	}
	entries, err := normalize(img.Entries)
	if err != nil {
		return info, err
	}
	layer, err := os.CreateTemp(filepath.Dir(path), ".layer-")
	if err != nil {
		return info, err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	layerDesc, err := writeLayer(layer, entries)
	if err != nil {
		return info, err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return info, err
	}

	plat := platform{Architecture: runtime.GOARCH, OS: "linux"}
	config, configDesc, err := blob(mediaConfig, imageConfig{
		Created: epoch, platform: plat,
		Config: runConfig{User: img.Config.User, Env: withPath(img.Config.Env), Entrypoint: img.Config.Entrypoint,
			Cmd: img.Config.Cmd, WorkingDir: img.Config.WorkDir},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{layerDesc.Digest}},
		History: []history{{Created: epoch, CreatedBy: "weightlock e2e/cluster"}},
	})
	if err != nil {
		return info, err
	}
	man, manDesc, err := blob(mediaManifest, manifest{SchemaVersion: 2, MediaType: mediaManifest, Config: configDesc,
		Layers: []descriptor{layerDesc}})
	if err != nil {
		return info, err
	}
	manDesc.Platform = &plat
	manDesc.Annotations = map[string]string{nameAnnotation: img.Name, refAnnotation: tag}
	idx, _, err := blob(mediaIndex, index{SchemaVersion: 2, MediaType: mediaIndex, Manifests: []descriptor{manDesc}})
	if err != nil {
		return info, err
	}

	out, err := os.CreateTemp(filepath.Dir(path), ".archive-")
	if err != nil {
		return info, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	tw := tar.NewWriter(out)
	bytesReader := func(b []byte) io.Reader { return bytes.NewReader(b) }
	for _, f := range []struct {
		name string
		size int64
		r    io.Reader
	}{
		{"oci-layout", int64(len(layout)), strings.NewReader(layout)},
		{"index.json", int64(len(idx)), bytesReader(idx)},
		{blobPath(manDesc), manDesc.Size, bytesReader(man)},
		{blobPath(configDesc), configDesc.Size, bytesReader(config)},
		{blobPath(layerDesc), layerDesc.Size, layer},
	} {
		if err := tw.WriteHeader(header(f.name, tar.TypeReg, 0o644, f.size)); err != nil {
			return info, err
		}
		if _, err := io.Copy(tw, f.r); err != nil {
			return info, err
		}
	}
	if err := tw.Close(); err != nil {
		return info, err
	}
	if err := out.Chmod(0o644); err != nil {
		return info, err
	}
	st, err := out.Stat()
	if err != nil {
		return info, err
	}
	info = Info{Digest: manDesc.Digest, LayerSize: layerDesc.Size, ArchiveSize: st.Size()}
	return info, os.Rename(out.Name(), path)
}

const layout = `{"imageLayoutVersion":"1.0.0"}`

// tagOf returns the tag of a reference. A reference without one would be imported under a name that no pod asks for.
func tagOf(name string) (string, error) {
	slash, colon := strings.LastIndexByte(name, '/'), strings.LastIndexByte(name, ':')
	if slash <= 0 || colon <= slash+1 || colon == len(name)-1 || strings.ContainsAny(name, " @") {
		return "", fmt.Errorf("image name %q: want host/repository:tag", name)
	}
	return name[colon+1:], nil
}

func withPath(env []string) []string {
	for _, e := range env {
		if strings.HasPrefix(e, "PATH=") {
			return env
		}
	}
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
}

func blob(mediaType string, v any) ([]byte, descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, descriptor{}, err
	}
	sum := sha256.Sum256(data)
	return data, descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}, nil
}

func blobPath(d descriptor) string { return "blobs/" + strings.Replace(d.Digest, ":", "/", 1) }

func header(name string, kind byte, perm fs.FileMode, size int64) *tar.Header {
	mode := int64(perm.Perm())
	if perm&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return &tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, ModTime: time.Unix(0, 0)}
}
