package risk

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/rollforward/rollforward/change"
)

// format names what the text of a policy means. An engine that came to mean
// something else would be another format: old texts keep their meaning, since
// receipts are judged again by them.
const format = "rollforward-risk-1"

const (
	maxPolicy = 256 << 10 // bytes of a policy's text
	maxDepth  = 8         // of combinations in combinations
	maxNodes  = 100       // engines and combinations of a policy
)

// document is the text of a policy.
type document struct {
	Format string   `json:"format"`
	Scale  []string `json:"scale"`
	Policy node     `json:"policy"`
}

// node is an engine or a combination, as data: exactly one of its pointers is set.
// Fields may be added; what is there keeps its meaning.
type node struct {
	ID            string         `json:"id"`
	LeadTime      *leadTime      `json:"lead_time,omitzero"`
	BlastRadius   *blastRadius   `json:"blast_radius,omitzero"`
	Rules         *rules         `json:"rules,omitzero"`
	Questionnaire *questionnaire `json:"questionnaire,omitzero"`
	WeightedMean  *weightedMean  `json:"weighted_mean,omitzero"`
	Matrix        *matrix        `json:"matrix,omitzero"`
	Max           *highest       `json:"max,omitzero"`
	Mean          *mean          `json:"mean,omitzero"`
	Go            *hook          `json:"go,omitzero"`
}

// engine is what a node does. Build checks its data and returns what judges by
// it, which is called only if nothing was refused.
type engine interface {
	build(b *builder, depth int) judge
}

func (n node) engines() []engine {
	var set []engine
	add := func(e engine, there bool) {
		if there {
			set = append(set, e)
		}
	}
	add(n.LeadTime, n.LeadTime != nil)
	add(n.BlastRadius, n.BlastRadius != nil)
	add(n.Rules, n.Rules != nil)
	add(n.Questionnaire, n.Questionnaire != nil)
	add(n.WeightedMean, n.WeightedMean != nil)
	add(n.Matrix, n.Matrix != nil)
	add(n.Max, n.Max != nil)
	add(n.Mean, n.Mean != nil)
	add(n.Go, n.Go != nil)
	return set
}

// node builds a node and what is below it.
func (b *builder) node(n node, depth int) judge {
	b.path = append(b.path, n.ID)
	defer func() { b.path = b.path[:len(b.path)-1] }()
	b.name("the engine", n.ID)
	if b.nodes++; b.nodes > maxNodes {
		b.refuse("too-many-engines", "the policy has more than %d engines: leave some out", maxNodes)
		return nil
	}
	if depth > maxDepth {
		b.refuse("too-deep", "combinations nest at most %d deep: combine fewer levels", maxDepth)
		return nil
	}
	set := n.engines()
	if len(set) != 1 {
		b.refuse("kind", "it says %d kinds of engine: say exactly one", len(set))
		return nil
	}
	return set[0].build(b, depth)
}

// canonical returns the text of a policy, the same for the same policy, and
// whether it contains what has no text.
func canonical(root node, scale Scale, b *builder) (text string, gone bool) {
	data, err := json.Marshal(document{format, scale, root}, json.Deterministic(true))
	if err != nil {
		b.refuse("text", "the policy cannot be written down: %v", err)
		return "", false
	}
	if len(data) > maxPolicy {
		b.refuse("too-large", "the text of the policy has %d bytes: at most %d", len(data), maxPolicy)
	}
	return string(data), root.gone()
}

// gone reports whether n contains a hook, which no text can say.
func (n node) gone() bool {
	switch {
	case n.Go != nil:
		return true
	case n.Max != nil:
		for _, e := range n.Max.Engines {
			if e.gone() {
				return true
			}
		}
	case n.Mean != nil:
		for _, p := range n.Mean.Parts {
			if p.Engine.gone() {
				return true
			}
		}
	}
	return false
}

// Parse makes a policy from its text, or from JSON that somebody wrote: members
// that it does not know are refused. The text of what it returns is canonical.
// A text that names a hook written in Go gives [ErrPolicyGone].
func Parse(text string) (*Policy, error) {
	if len(text) > maxPolicy {
		return nil, &PolicyError{"", "too-large", fmt.Sprintf("the text has %d bytes: at most %d", len(text), maxPolicy)}
	}
	if nesting(text) > 100 { // before a recursive parser sees it
		return nil, &PolicyError{"", "too-deep", "the text nests more than 100 deep"}
	}
	var d document
	if err := json.Unmarshal([]byte(text), &d, json.RejectUnknownMembers(true)); err != nil {
		return nil, &PolicyError{"", "malformed", fmt.Sprintf("it is no text of a policy: %v", err)}
	}
	if d.Format != format {
		return nil, &PolicyError{"", "unknown-format", fmt.Sprintf("the format is %q: this program knows %q", d.Format, format)}
	}
	if d.Policy.gone() {
		return nil, fmt.Errorf("%w: part of it was written in Go", ErrPolicyGone)
	}
	if d.Scale == nil {
		d.Scale = DefaultScale()
	}
	p := build(d.Policy, d.Scale)
	if p.err != nil {
		return nil, p.err
	}
	return p, nil
}

// nesting returns how deep JSON nests. Of what is not JSON it may return anything.
func nesting(text string) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// digest returns the SHA-256 of data, hexadecimal.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// hook is an engine that only the program has.
type hook struct {
	Version string            `json:"version"`
	policy  change.RiskPolicy // never written
}

// nodeOf returns a policy as part of another: its data, or a hook.
func nodeOf(p change.RiskPolicy, id string) node {
	switch p := p.(type) {
	case nil:
		return node{ID: id, Go: &hook{}}
	case *Policy:
		if p == nil {
			return node{ID: id, Go: &hook{}}
		}
		return p.root
	default:
		policy := p.Policy()
		return node{ID: policy.ID, Go: &hook{policy.Version, p}}
	}
}

// duration is a time.Duration whose JSON is text: "24h0m0s".
type duration time.Duration

func (d duration) String() string { return spell(time.Duration(d)) }

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write it as 90m or 72h", text)
	}
	*d = duration(parsed)
	return nil
}

// spell writes a duration of whole seconds for people: "24h", "1h30m".
func spell(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
