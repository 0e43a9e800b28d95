package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// program returns the path of an executable file with the given contents, permissions and modification time.
func program(t *testing.T, contents string, perm fs.FileMode, mtime time.Time) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(p, []byte(contents), perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(p, mtime, mtime); err != nil {
		t.Fatal(err)
	}
	return p
}

func sample(source string) Image {
	return Image{
		Name:   "registry.invalid/e2e/sample:1.2",
		Config: Config{Entrypoint: []string{"/sample"}, Cmd: []string{"pause"}, Env: []string{"A=b"}, User: "65532:65532", WorkDir: "/tmp"},
		Entries: []Entry{
			File("/sample", source), Symlink("/bin/sh", "busybox"), Dir("/tmp", fs.ModeSticky|0o777), Data("/etc/x/motd", []byte("hi")),
		},
	}
}

type member struct {
	header tar.Header
	data   []byte
}

func untar(t *testing.T, r io.Reader) (names []string, members map[string]member) {
	t.Helper()
	members = map[string]member{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return names, members
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		members[h.Name] = member{*h, data}
	}
}

// resolve reads the blob that d names and checks that its size and digest are those of d.
func resolve(t *testing.T, members map[string]member, d descriptor) []byte {
	t.Helper()
	m, ok := members[blobPath(d)]
	if !ok {
		t.Fatalf("no blob %s", blobPath(d))
	}
	if sum := sha256.Sum256(m.data); d.Digest != "sha256:"+hex.EncodeToString(sum[:]) || d.Size != int64(len(m.data)) {
		t.Errorf("blob %s: digest or size (%d, %d) do not fit", d.Digest, d.Size, len(m.data))
	}
	return m.data
}

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
}

func TestSameInputGivesSameBytes(t *testing.T) {
	a := sample(program(t, "elf", 0o755, time.Unix(1, 0)))
	b := sample(program(t, "elf", 0o700, time.Unix(99, 0)))
	b.Entries[0], b.Entries[3] = b.Entries[3], b.Entries[0]
	dir := t.TempDir()
	infoA, err := Write(filepath.Join(dir, "a.tar"), a)
	if err != nil {
		t.Fatal(err)
	}
	infoB, err := Write(filepath.Join(dir, "b.tar"), b)
	if err != nil {
		t.Fatal(err)
	}
	bytesA, _ := os.ReadFile(filepath.Join(dir, "a.tar"))
	bytesB, _ := os.ReadFile(filepath.Join(dir, "b.tar"))
	if !bytes.Equal(bytesA, bytesB) || infoA != infoB {
		t.Errorf("order, time or umask of the sources changed the archive: %+v, %+v", infoA, infoB)
	}
	if infoA.ArchiveSize != int64(len(bytesA)) {
		t.Errorf("ArchiveSize %d, the file has %d bytes", infoA.ArchiveSize, len(bytesA))
	}
	c := sample(program(t, "elF", 0o755, time.Unix(1, 0)))
	infoC, err := Write(filepath.Join(dir, "c.tar"), c)
	if err != nil {
		t.Fatal(err)
	}
	if infoC.Digest == infoA.Digest {
		t.Error("other contents, same digest")
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(left) > 0 {
		t.Errorf("temporary files left behind: %v", left)
	}
}

func TestArchiveIsAValidImageLayout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.tar")
	info, err := Write(path, sample(program(t, "elf", 0o755, time.Now())))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, outer := untar(t, f)
	if got := string(outer["oci-layout"].data); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout is %s", got)
	}
	var idx index
	decode(t, outer["index.json"].data, &idx)
	if idx.SchemaVersion != 2 || idx.MediaType != mediaIndex || len(idx.Manifests) != 1 {
		t.Fatalf("index.json: %+v", idx)
	}
	top := idx.Manifests[0]
	if top.Digest != info.Digest || top.MediaType != mediaManifest || top.Platform == nil || top.Platform.OS != "linux" {
		t.Errorf("manifest descriptor: %+v, Write said %s", top, info.Digest)
	}
	want := map[string]string{"io.containerd.image.name": "registry.invalid/e2e/sample:1.2", "org.opencontainers.image.ref.name": "1.2"}
	if !reflect.DeepEqual(top.Annotations, want) {
		t.Errorf("annotations %v, want %v", top.Annotations, want)
	}
	var man manifest
	decode(t, resolve(t, outer, top), &man)
	if len(man.Layers) != 1 || man.Layers[0].MediaType != mediaLayer || man.Layers[0].Size != info.LayerSize {
		t.Fatalf("layers: %+v", man.Layers)
	}
	var cfg imageConfig
	decode(t, resolve(t, outer, man.Config), &cfg)
	if !reflect.DeepEqual(cfg.RootFS, rootFS{"layers", []string{man.Layers[0].Digest}}) {
		t.Errorf("rootfs %+v does not name the layer %s", cfg.RootFS, man.Layers[0].Digest)
	}
	wantRun := runConfig{User: "65532:65532", Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b"},
		Entrypoint: []string{"/sample"}, Cmd: []string{"pause"}, WorkingDir: "/tmp"}
	if !reflect.DeepEqual(cfg.Config, wantRun) {
		t.Errorf("config %+v, want %+v", cfg.Config, wantRun)
	}

	names, files := untar(t, bytes.NewReader(resolve(t, outer, man.Layers[0])))
	if want := []string{"bin/", "bin/sh", "etc/", "etc/x/", "etc/x/motd", "sample", "tmp/"}; !reflect.DeepEqual(names, want) {
		t.Errorf("layer holds %v, want %v", names, want)
	}
	if h := files["sample"].header; h.Mode != 0o755 || h.Uid != 0 || !h.ModTime.Equal(time.Unix(0, 0)) || string(files["sample"].data) != "elf" {
		t.Errorf("/sample: %+v %q", h, files["sample"].data)
	}
	if h := files["tmp/"].header; h.Mode != 0o1777 || h.Typeflag != tar.TypeDir {
		t.Errorf("/tmp: mode %o type %c", h.Mode, h.Typeflag)
	}
	if h := files["bin/sh"].header; h.Linkname != "busybox" || h.Typeflag != tar.TypeSymlink {
		t.Errorf("/bin/sh: %+v", h)
	}
}

func TestBadInputIsRefused(t *testing.T) {
	ok := "registry.invalid/e2e/x:1"
	for _, c := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"registry.invalid/e2e/x", nil, `image name "registry.invalid/e2e/x": want host/repository:tag`},
		{"registry.invalid:5000/x", nil, `image name "registry.invalid:5000/x": want host/repository:tag`},
		{"x:1", nil, `image name "x:1": want host/repository:tag`},
		{ok, []Entry{Data("etc/x", nil)}, `entry "etc/x": want a clean absolute path below /`},
		{ok, []Entry{Data("/a/../../x", nil)}, `entry "/a/../../x": want a clean absolute path below /`},
		{ok, []Entry{Data("/a", nil), Data("/a", nil)}, `entry "/a" is there twice`},
		{ok, []Entry{Data("/a", nil), Data("/a/b", nil)}, `entry "/a/b" lies below "/a", which is no directory`},
		{ok, []Entry{File("/a", "/nonexistent/a")}, `entry "/a": open /nonexistent/a: no such file or directory`},
	} {
		path := filepath.Join(t.TempDir(), "a.tar")
		_, err := Write(path, Image{Name: c.name, Entries: c.entries})
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("got %v, want ... %s", err, c.want)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: an archive was written all the same", c.want)
		}
	}
}
