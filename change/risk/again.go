package risk

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
)

// Again judges the facts of a receipt once more by the text of its policy, which
// is an event of its own, and returns what it says now; compare it with the
// receipt's verdict by [Same]. It gives [ErrReceipt] where the facts are not those
// of the digest or the text is not that of the version, and [ErrPolicyGone] where
// there is no text, as for a hook written in Go. A verdict that a person gave has
// no policy: that too is ErrReceipt.
func Again(ctx context.Context, receipt change.Receipt, text string) (change.Verdict, error) {
	is, err := receipt.Facts.Digest()
	if err != nil {
		return change.Verdict{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	if is != receipt.Digest {
		return change.Verdict{}, fmt.Errorf("%w: its facts have the digest %s, and it says %q", ErrReceipt, is, receipt.Digest)
	}
	if receipt.By != "" {
		return change.Verdict{}, fmt.Errorf("%w: %q assessed by hand, so there is no policy to ask", ErrReceipt, receipt.By)
	}
	if text == "" {
		return change.Verdict{}, fmt.Errorf("%w: policy %q, version %q, has no text", ErrPolicyGone, receipt.Policy.ID, receipt.Policy.Version)
	}
	if is := digest([]byte(text)); is != receipt.Policy.Version {
		return change.Verdict{}, fmt.Errorf("%w: policy %q was version %q, and the text is of version %s", ErrReceipt, receipt.Policy.ID, receipt.Policy.Version, is)
	}
	p, err := Parse(text)
	if err != nil {
		return change.Verdict{}, fmt.Errorf("policy %q: %w", receipt.Policy.ID, err)
	}
	return p.Assess(ctx, receipt.Facts)
}

// Same reports whether two verdicts say the same: levels, numbers by value, reasons
// and engines in order.
func Same(a, b change.Verdict) bool {
	return a.Level == b.Level && a.By == b.By && equal(a.Score, b.Score) && equal(a.Failure, b.Failure) && slices.Equal(a.Why, b.Why) &&
		slices.EqualFunc(a.Engines, b.Engines, func(x, y change.EngineVerdict) bool {
			return x.Engine == y.Engine && x.Level == y.Level && equal(x.Score, y.Score) && equal(x.Weight, y.Weight) && slices.Equal(x.Why, y.Why)
		})
}

func equal(a, b *apd.Decimal) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Cmp(b) == 0
}
