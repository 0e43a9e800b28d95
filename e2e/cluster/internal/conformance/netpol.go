// Package conformance proves on a running cluster that its network plugin enforces NetworkPolicy, with the end-to-end
// suite that Kubernetes itself is released with.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"weightlock.dev/e2e/cluster/internal/artifacts"
	"weightlock.dev/e2e/cluster/internal/logged"
	"weightlock.dev/e2e/cluster/internal/progress"
)

// wantPassed is how many specs the suite has at the pinned version without SCTP, which the kernel may lack.
const wantPassed = 45

// negativeSpecs expect connections to be cut, so without enforcement they must fail. The names are parts of the full
// ones, to which the suite adds its labels.
var negativeSpecs = []string{
	"Netpol NetworkPolicy between server and client should support a 'default-deny-ingress' policy",
	"Netpol NetworkPolicy between server and client should support a 'default-deny-all' policy",
	"Netpol NetworkPolicy between server and client should deny egress from pods based on PodSelector",
}

// wrongConnectivity is how the suite says that connections worked which a policy forbids, or the reverse.
const wrongConnectivity = "wrong results in reachability matrix"

// Netpol runs the NetworkPolicy suite against the cluster of kubeconfig and requires that all of its specs, 45
// without SCTP, pass. It takes about four minutes on two nodes. args are more flags for ginkgo; with them the number
// of specs is not checked, so that a single one can be looked at (--focus=...).
func Netpol(ctx context.Context, set *artifacts.Set, kubeconfig string, log *progress.Log, args ...string) error {
	focus := args
	if len(args) == 0 {
		focus = []string{"--focus=Netpol|NetworkPolicy"}
	}
	r, err := run(ctx, set, kubeconfig, log, enforced, 4*time.Minute, append([]string{"--skip=SCTP"}, focus...))
	if err != nil {
		return err
	}
	log.Printf("NetworkPolicy suite: %s; log %s\nslowest:\n%s", r.result, r.log, r.slowest(5))
	if err := r.judge(len(args) == 0); err != nil || len(args) > 0 {
		return err
	}
	return prove(set, enforced, r.result)
}

// NetpolNegative runs three specs against a cluster that was started with --policy-enforcement=never and requires
// that each of them fails because a forbidden connection worked. Else the suite could not tell.
func NetpolNegative(ctx context.Context, set *artifacts.Set, kubeconfig string, log *progress.Log) error {
	quoted := make([]string, len(negativeSpecs))
	for i, s := range negativeSpecs {
		quoted[i] = regexp.QuoteMeta(s)
	}
	r, err := run(ctx, set, kubeconfig, log, negative, 2*time.Minute,
		[]string{"--skip=SCTP", "--focus=" + strings.Join(quoted, "|")})
	if err != nil {
		return err
	}
	log.Printf("NetworkPolicy suite with enforcement off: %s, must be 0 passed, %d failed; log %s\n%s",
		r.result, len(negativeSpecs), r.log, r.failures())
	if err := r.judgeNegative(); err != nil {
		return err
	}
	return prove(set, negative, r.result)
}

// outcome is the result of a run and where its full output is.
type outcome struct {
	result
	log string
}

func (o outcome) judge(complete bool) error {
	switch {
	case len(o.failed) > 0:
		return fmt.Errorf("NetworkPolicy suite: %s; full log %s\n%s", o.result, o.log, o.failures())
	case complete && len(o.passed) != wantPassed:
		return fmt.Errorf("NetworkPolicy suite: %d specs passed and none failed, but it has %d: the focus or the version of the suite changed; full log %s",
			len(o.passed), wantPassed, o.log)
	case len(o.passed) == 0:
		return fmt.Errorf("NetworkPolicy suite: no spec ran; full log %s", o.log)
	}
	return nil
}

func (o outcome) judgeNegative() error {
	if len(o.passed) > 0 {
		return fmt.Errorf("with policy enforcement off %q passed: either the cluster enforces (start it with --policy-enforcement=never) or the suite cannot tell; full log %s",
			o.passed[0].name(), o.log)
	}
	for _, want := range negativeSpecs {
		i := slices.IndexFunc(o.failed, func(s spec) bool { return strings.Contains(s.name(), want) })
		if i < 0 {
			return fmt.Errorf("with policy enforcement off %q did not run; full log %s", want, o.log)
		}
		if s := o.failed[i]; s.State != "failed" || !strings.Contains(s.Failure.Message, wrongConnectivity) {
			return fmt.Errorf("with policy enforcement off %q ended as %s for another reason than connectivity: %s; full log %s",
				s.name(), s.State, s.Failure.Message, o.log)
		}
	}
	if len(o.failed) != len(negativeSpecs) {
		return fmt.Errorf("with policy enforcement off %d specs failed, %d were asked for; full log %s\n%s",
			len(o.failed), len(negativeSpecs), o.log, o.failures())
	}
	return nil
}

// run executes the suite and reads its report. A suite that failed is a result, not an error; that it could not run
// is an error.
func run(ctx context.Context, set *artifacts.Set, kubeconfig string, log *progress.Log, name string, estimate time.Duration, args []string) (outcome, error) {
	suite, err := artifacts.EnsureNetpol(ctx, set, log)
	if err != nil {
		return outcome{}, err
	}
	if _, err := os.Stat(kubeconfig); err != nil {
		return outcome{}, fmt.Errorf("%w: is the cluster up?", err)
	}
	reports, err := os.MkdirTemp("", "weightlock-netpol-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(reports)
	o := outcome{log: filepath.Join(suite.Logs, name+".log")}
	command := append([]string{suite.Ginkgo, "run", "--procs=4", "--timeout=60m", "--no-color", "-v",
		"--output-dir=" + reports, "--json-report=report.json"}, args...)
	command = append(command, suite.Test, "--", "--kubeconfig="+kubeconfig, "--provider=local", "--num-nodes=2",
		"--dump-logs-on-failure=false")
	step := log.Step("NetworkPolicy suite ("+name+")", estimate)
	runErr := logged.Run(ctx, logged.Command{Log: o.log, Dir: reports, Args: command, Grace: 30 * time.Second,
		Env: []string{"KUBE_TEST_REPO_LIST=" + suite.Repos}})
	step.Done(ctx.Err())
	if ctx.Err() != nil {
		return outcome{}, runErr
	}
	o.result, err = readReport(filepath.Join(reports, "report.json"))
	if err != nil {
		return outcome{}, errors.Join(err, runErr)
	}
	if runErr != nil && len(o.failed) == 0 {
		return outcome{}, runErr
	}
	return o, nil
}
