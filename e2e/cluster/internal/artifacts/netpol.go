package artifacts

import (
	"context"
	"path/filepath"
	"time"

	"weightlock.dev/e2e/cluster/internal/progress"
)

// NetpolSuite is the upstream NetworkPolicy end-to-end suite, ready to run.
type NetpolSuite struct {
	// Ginkgo runs the precompiled suite Test in parallel processes. Repos is the file that tells it which registry
	// its one image is named after. Logs is where its logs may go.
	Ginkgo, Test, Repos, Logs string
}

// EnsureNetpol builds the suite if the cache does not hold it: about 70 s on top of a warm set. It is not part of a
// Set because only the conformance verb needs it.
func EnsureNetpol(ctx context.Context, set *Set, log *progress.Log) (*NetpolSuite, error) {
	b, err := newBuilder(ctx, set.Source, log)
	if err != nil {
		return nil, err
	}
	ginkgo := goProgram{name: "ginkgo", module: netpolDir, pkg: "github.com/onsi/ginkgo/v2/ginkgo", estimate: 10 * time.Second}
	test := goProgram{name: "netpol.test", module: netpolDir, pkg: ".", test: true, estimate: 70 * time.Second}
	suite := []*component{ginkgo.component(b), test.component(b)}
	if err := b.add(suite...); err != nil {
		return nil, err
	}
	unlock, err := b.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := b.buildMissing(suite); err != nil {
		return nil, err
	}
	return &NetpolSuite{Ginkgo: b.file(ginkgo.name, ginkgo.name), Test: b.file(test.name, test.name),
		Repos: filepath.Join(b.src, netpolDir, "repos.yaml"), Logs: filepath.Join(b.cache, "logs")}, nil
}

const netpolDir = "modules/netpol"
