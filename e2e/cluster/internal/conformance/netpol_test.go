package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"weightlock.dev/e2e/cluster/internal/artifacts"
)

// report writes a report in ginkgo's form, with the given specs after a suite node, and reads it back.
func report(t *testing.T, specs ...map[string]any) outcome {
	t.Helper()
	all := append([]map[string]any{{"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"}}, specs...)
	data, err := json.Marshal([]any{map[string]any{"SuitePath": "/x", "SpecReports": all}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := readReport(path)
	if err != nil {
		t.Fatal(err)
	}
	return outcome{result: r, log: "/logs/netpol.log"}
}

func aSpec(name, state, message string) map[string]any {
	return map[string]any{"ContainerHierarchyTexts": []string{"[sig-network] Netpol"}, "LeafNodeType": "It",
		"LeafNodeText": strings.TrimPrefix(name, "Netpol ") + " [Feature:NetworkPolicy]", "State": state, "RunTime": 1e9,
		"Failure": map[string]any{"Message": message}}
}

func passing(n int) (specs []map[string]any) {
	for i := range n {
		specs = append(specs, aSpec(fmt.Sprintf("Netpol spec %d", i), "passed", ""))
	}
	return specs
}

// check asserts that err is nil exactly when want is empty, and that it contains want.
func check(t *testing.T, what string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got error %v, want %q", what, err, want)
	}
}

func TestAllSpecsMustRunAndPass(t *testing.T) {
	skipped := aSpec("Netpol SCTP", "skipped", "")
	broken := aSpec("Netpol broken", "failed", "Had 3 wrong results in reachability matrix\nmore")
	late := map[string]any{"LeafNodeType": "SynchronizedAfterSuite", "LeafNodeText": "", "State": "panicked"}
	check(t, "45 pass", report(t, append(passing(45), skipped)...).judge(true), "")
	check(t, "44 pass", report(t, passing(44)...).judge(true), "44 specs passed and none failed, but it has 45")
	check(t, "one fails", report(t, append(passing(45), broken)...).judge(true),
		"45 passed, 1 failed; full log /logs/netpol.log\n  [sig-network] Netpol broken [Feature:NetworkPolicy] (failed): Had 3 wrong results in reachability matrix")
	check(t, "suite panics", report(t, append(passing(45), late)...).judge(true), "45 passed, 1 failed")
	check(t, "one asked for", report(t, passing(1)...).judge(false), "")
	check(t, "none matched", report(t, skipped).judge(false), "no spec ran")
}

func TestWithoutEnforcementAllThreeMustFailByConnectivity(t *testing.T) {
	const wrong = "Had 8 wrong results in reachability matrix"
	three := func(state, message string) (specs []map[string]any) {
		for _, n := range negativeSpecs {
			specs = append(specs, aSpec(n, state, message))
		}
		return specs
	}
	check(t, "all fail", report(t, three("failed", wrong)...).judgeNegative(), "")
	check(t, "one missing", report(t, three("failed", wrong)[:2]...).judgeNegative(), "did not run")
	check(t, "one passes", report(t, append(three("failed", wrong)[:2], three("passed", "")[2])...).judgeNegative(), "either the cluster enforces")
	check(t, "no API server", report(t, three("failed", "connection refused")...).judgeNegative(), "another reason than connectivity: connection refused")
	check(t, "time ran out", report(t, three("timedout", wrong)...).judgeNegative(), "ended as timedout")
	check(t, "more fail", report(t, append(three("failed", wrong), aSpec("Netpol x", "failed", wrong))...).judgeNegative(), "4 specs failed, 3 were asked for")
}

func TestSlowestComeFirst(t *testing.T) {
	slow := aSpec("Netpol slow", "passed", "")
	slow["RunTime"] = 9e9
	got := report(t, append(passing(3), slow)...).slowest(2)
	want := "    9 s  [sig-network] Netpol slow [Feature:NetworkPolicy]\n    1 s  "
	if !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q, want two lines that start with %q", got, want)
	}
}

func TestProofHoldsForTheSameSourcesOnly(t *testing.T) {
	t.Setenv("WEIGHTLOCK_E2E_CACHE", t.TempDir())
	src := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(src, "main.go"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proved := func(what string, set *artifacts.Set, withoutEnforcement, want bool) {
		t.Helper()
		when, got, err := Proved(set, withoutEnforcement)
		if err != nil || got != want || got && !strings.HasPrefix(when, "45 passed, 0 failed at 2") {
			t.Errorf("%s: got %q, %t, %v, want %t", what, when, got, err, want)
		}
	}
	write("a")
	set := &artifacts.Set{Source: src, Root: "/cache/sets/one"}
	proved("never run", set, false, false)
	if err := prove(set, enforced, report(t, passing(45)...).result); err != nil {
		t.Fatal(err)
	}
	proved("passed", set, false, true)
	proved("the other run", set, true, false)
	proved("other programs", &artifacts.Set{Source: src, Root: "/cache/sets/two"}, false, false)
	write("b")
	proved("other sources", set, false, false)
}
