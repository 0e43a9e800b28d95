package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// spec is one specification of the suite as the JSON report of ginkgo has it.
type spec struct {
	Containers []string `json:"ContainerHierarchyTexts"`
	Kind       string   `json:"LeafNodeType"`
	Text       string   `json:"LeafNodeText"`
	State      string
	RunTime    time.Duration
	Failure    struct{ Message string }
}

func (s spec) name() string { return strings.Join(append(slices.Clone(s.Containers), s.Text), " ") }

// result counts the specs of a run. What stopped the suite itself, before or after the specs, is among the failed.
type result struct {
	passed, failed []spec
}

func (r result) String() string {
	return fmt.Sprintf("%d passed, %d failed", len(r.passed), len(r.failed))
}

// readReport reads the report that ginkgo wrote to path. Specs that the focus left out do not count.
func readReport(path string) (result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return result{}, err
	}
	var suites []struct{ SpecReports []spec }
	if err := json.Unmarshal(data, &suites); err != nil {
		return result{}, fmt.Errorf("%s: %w", path, err)
	}
	var r result
	for _, suite := range suites {
		for _, s := range suite.SpecReports {
			switch {
			case s.State == "skipped" || s.State == "pending":
			case s.State != "passed":
				r.failed = append(r.failed, s)
			case s.Kind == "It":
				r.passed = append(r.passed, s)
			}
		}
	}
	return r, nil
}

// slowest names the n specs that took longest.
func (r result) slowest(n int) string {
	all := slices.Concat(r.passed, r.failed)
	slices.SortFunc(all, func(a, b spec) int { return int(b.RunTime - a.RunTime) })
	var lines []string
	for _, s := range all[:min(n, len(all))] {
		lines = append(lines, fmt.Sprintf("  %3.0f s  %s", s.RunTime.Seconds(), s.name()))
	}
	return strings.Join(lines, "\n")
}

// failures names the specs that failed, each with the first line of its message.
func (r result) failures() string {
	var lines []string
	for _, s := range r.failed {
		message, _, _ := strings.Cut(strings.TrimSpace(s.Failure.Message), "\n")
		lines = append(lines, fmt.Sprintf("  %s (%s): %s", s.name(), s.State, message))
	}
	return strings.Join(lines, "\n")
}
