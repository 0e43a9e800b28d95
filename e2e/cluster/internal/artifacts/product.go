package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"weightlock.dev/e2e/cluster/internal/logged"
	"weightlock.dev/e2e/cluster/internal/oci"
	"weightlock.dev/e2e/cluster/internal/progress"
)

// The images of Weightlock itself, by the name that containerd knows them by after an import.
const (
	WeightlockImage       = "registry.invalid/weightlock/weightlock:dev"
	WeightlockVerifyImage = "registry.invalid/weightlock/weightlock-verify:dev"
)

// maxVerifierBytes bounds the program that is pulled into every pod that mounts weights.
const maxVerifierBytes = 5_000_000

const (
	rustTarget = "x86_64-unknown-linux-gnu"
	// nonRoot is the user of both images: a number, so that runAsNonRoot can be checked without a passwd file.
	nonRoot = "65532:65532"
)

// Product is what one checkout's Rust sources were built into.
type Product struct {
	// Images are the archives of WeightlockImage and WeightlockVerifyImage.
	Images []string
	// Bin holds weightlock, weightlock-verify and kubectl-weightlock, statically linked.
	Bin string
}

// ProductImages builds the images of Weightlock from the sources in repoRoot and returns the paths of their archives.
func ProductImages(ctx context.Context, repoRoot string, log *progress.Log) ([]string, error) {
	p, err := BuildProduct(ctx, repoRoot, log)
	if err != nil {
		return nil, err
	}
	return p.Images, nil
}

// BuildProduct builds Weightlock's programs and images. Cargo decides what is out of date, in $CARGO_TARGET_DIR or
// else in the cache, never in the checkout.
func BuildProduct(ctx context.Context, repoRoot string, log *progress.Log) (*Product, error) {
	root, err := filepath.Abs(repoRoot)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(root, "Cargo.toml")); err != nil {
		return nil, fmt.Errorf("%w: name the root of a Weightlock checkout", err)
	}
	if _, err := exec.LookPath("cargo"); err != nil {
		return nil, errors.New("`cargo` is not on PATH: install Rust (https://rustup.rs) and put cargo's bin directory on PATH")
	}
	cache, err := CacheRoot()
	if err != nil {
		return nil, err
	}
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(cache, "cargo-target")
	} else if !filepath.IsAbs(target) {
		target = filepath.Join(root, target)
	}

	builds := []struct {
		name     string
		profile  string
		estimate time.Duration
		args     []string
		bins     []string
	}{
		{"weightlock", "release", 5 * time.Minute, []string{"--release"}, []string{"weightlock", "kubectl-weightlock"}},
		{"weightlock-verify", "verify", 30 * time.Second,
			[]string{"--profile", "verify", "--no-default-features", "--features", "verify"}, []string{"weightlock-verify"}},
	}
	// A checkout has a directory of its own, so that two worktrees that share a cache do not mix their images.
	sum := sha256.Sum256([]byte(root))
	out := filepath.Join(cache, "product", hex.EncodeToString(sum[:6]))
	p := &Product{Bin: filepath.Join(out, "bin")}
	if err := os.MkdirAll(p.Bin, 0o755); err != nil {
		return nil, err
	}
	for _, b := range builds {
		args := append([]string{"cargo", "build", "--locked", "--target", rustTarget}, b.args...)
		for _, bin := range b.bins {
			args = append(args, "--bin", bin)
		}
		step := log.Step("cargo build "+b.name, b.estimate)
		err := logged.Run(ctx, logged.Command{Log: logPath(cache, "cargo-"+b.name), Dir: root, Args: args,
			Env: []string{"RUSTFLAGS=-C target-feature=+crt-static", "CARGO_TARGET_DIR=" + target}})
		for _, bin := range b.bins {
			if err == nil {
				err = replaceFile(filepath.Join(target, rustTarget, b.profile, bin), filepath.Join(p.Bin, bin))
			}
		}
		step.Done(err)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", b.name, err)
		}
	}
	if err := checkVerifierSize(filepath.Join(p.Bin, "weightlock-verify")); err != nil {
		return nil, err
	}
	for _, image := range []struct{ bin, ref string }{{"weightlock", WeightlockImage}, {"weightlock-verify", WeightlockVerifyImage}} {
		archive := filepath.Join(out, image.bin+".tar")
		info, err := oci.Write(archive, oci.Image{Name: image.ref,
			Config:  oci.Config{Entrypoint: []string{"/" + image.bin}, User: nonRoot},
			Entries: []oci.Entry{oci.File("/"+image.bin, filepath.Join(p.Bin, image.bin))}})
		if err != nil {
			return nil, err
		}
		log.Printf("%s: %.2f MB, %s", image.ref, megabytes(info.ArchiveSize), info.Digest)
		p.Images = append(p.Images, archive)
	}
	return p, nil
}

func checkVerifierSize(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Size() >= maxVerifierBytes {
		return fmt.Errorf("weightlock-verify has %d bytes, the limit is %d: it runs in every pod that mounts weights; look for a dependency that came in (cargo tree --no-default-features --features verify)",
			st.Size(), maxVerifierBytes)
	}
	return nil
}

// replaceFile copies in such a way that a program of the old contents may still be running.
func replaceFile(from, to string) error {
	tmp := to + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := copyFile(from, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}
