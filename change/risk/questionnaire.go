package risk

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
)

// Threshold gives a level to the scores between two bounds, as exact decimals. One
// without a lower bound reaches down to the lowest score that there can be, one
// without an upper bound up to the highest.
//
//	risk.Threshold{Level: risk.Low, To: "25"}, risk.Threshold{Level: risk.Moderate, From: "26", To: "50"}, risk.Threshold{Level: risk.High, From: "51"}
//	risk.Threshold{Level: risk.Low, To: "6"}, risk.Threshold{Level: risk.Moderate, Above: "6"}
type Threshold struct {
	Level string `json:"level"`
	From  string `json:"from,omitzero"`  // the score is at least
	Above string `json:"above,omitzero"` // the score is more than; instead of From
	To    string `json:"to,omitzero"`    // the score is at most
	Below string `json:"below,omitzero"` // the score is less than; instead of To
}

// Questionnaire is an engine: the score is the sum of value x weight over all
// questions, and the threshold it lies in says the level. Every question has
// choices. Thresholds cover the whole range, from the lowest sum of choices to the
// highest, without gap or overlap, or it is refused. The range is looked at in
// steps of the last digit that a weight has after the point: with whole weights
// 0-25 and 26-50 have no gap, with a weight of 0.5 they have one from 25.1 to
// 25.9. A question that is not answered with one of its choices gives the scale's
// highest level and no score.
func Questionnaire(title string, questions []Question, thresholds ...Threshold) *Policy {
	e := &questionnaire{title, cloned(questions), slices.Clone(thresholds)}
	return build(node{ID: "questionnaire", Questionnaire: e}, nil)
}

type questionnaire struct {
	Title      string      `json:"title,omitzero"`
	Questions  []Question  `json:"questions"`
	Thresholds []Threshold `json:"thresholds"`
}

func (e *questionnaire) build(b *builder, _ int) judge {
	b.text("the title", e.Title)
	list := b.questions(e.Questions)
	for _, q := range e.Questions {
		if len(q.Choices) == 0 {
			b.refuse("choices", "question %q has no choices: without them the range of the score is not known", q.ID)
		}
	}
	bands := b.thresholds(e.Thresholds, list)
	scale := b.scale
	return func(_ context.Context, s *subject) (change.Verdict, error) {
		var sum total
		var missing []string
		for _, q := range list {
			value, why := answer(s.Facts, q.ID, q.takes)
			if why != "" {
				missing = append(missing, why)
				continue
			}
			sum.add(int64(value), q.weight)
		}
		if len(missing) > 0 {
			return scale.unknown("%s", some(missing)), nil
		}
		score, err := sum.value()
		if err != nil {
			return change.Verdict{}, err
		}
		for _, t := range bands {
			if t.holds(score) {
				return change.Verdict{Level: t.Level, Score: score, Why: []string{fmt.Sprintf("the score is %s: %s", score, t)}}, nil
			}
		}
		return change.Verdict{}, fmt.Errorf("no threshold has the score %s", score)
	}
}

// some names the first five of a list.
func some(list []string) string {
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + fmt.Sprintf(" and %d more", len(list)-5)
	}
	return strings.Join(list, ", ")
}

// band is a threshold that was checked: its bounds as numbers, nil for none.
type band struct {
	Threshold
	from, above, to, below *apd.Decimal
	first, last            *big.Int // the scores it has, in steps
}

func (t band) holds(score *apd.Decimal) bool {
	return (t.from == nil || score.Cmp(t.from) >= 0) && (t.above == nil || score.Cmp(t.above) > 0) &&
		(t.to == nil || score.Cmp(t.to) <= 0) && (t.below == nil || score.Cmp(t.below) < 0)
}

// String says the threshold for people: "26 to 50 is moderate", "above 6 is moderate".
func (t Threshold) String() string {
	var said string
	switch {
	case t.From != "" && t.To != "":
		said = t.From + " to " + t.To
	case t.From != "" && t.Below != "":
		said = t.From + " to below " + t.Below
	case t.Above != "" && t.To != "":
		said = "above " + t.Above + " to " + t.To
	case t.Above != "" && t.Below != "":
		said = "above " + t.Above + " to below " + t.Below
	case t.From != "":
		said = t.From + " and more"
	case t.Above != "":
		said = "above " + t.Above
	case t.To != "":
		said = "up to " + t.To
	case t.Below != "":
		said = "below " + t.Below
	default:
		said = "every score"
	}
	return said + " is " + t.Level
}

// thresholds checks that every score lies in exactly one threshold. Scores are
// looked at in steps, which are whole numbers.
func (b *builder) thresholds(list []Threshold, questions []asked) []band {
	if !b.count("thresholds", len(list), 100) {
		return nil
	}
	var decimals int32
	for _, q := range questions {
		decimals = max(decimals, places(q.weight))
	}
	bands := make([]band, 0, len(list))
	for i, t := range list {
		b.level(fmt.Sprintf("threshold %d", i+1), t.Level)
		if done, ok := b.band(i, t, decimals); ok {
			bands = append(bands, done)
		}
	}
	low, high, err := span(questions, decimals)
	if err != nil {
		b.refuse("range", "the range of the score: %v", err)
		return nil
	}
	if len(bands) < len(list) {
		return nil // what is wrong with a single one is said already
	}
	slices.SortStableFunc(bands, func(x, y band) int { return x.first.Cmp(y.first) })
	b.seams(bands, low, high, decimals)
	return bands
}

// seams looks at what lies before, between and after the bands, in the order of
// where they begin.
func (b *builder) seams(bands []band, low, high *big.Int, decimals int32) {
	show := func(n *big.Int) string {
		return apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(n), -decimals).Text('f')
	}
	one := big.NewInt(1)
	missing := func(first, last *big.Int) {
		if first.Cmp(low) < 0 {
			first = low
		}
		if last.Cmp(high) > 0 {
			last = high
		}
		switch first.Cmp(last) {
		case -1:
			b.refuse("gap", "no threshold has the scores %s to %s, and the score goes from %s to %s: cover them", show(first), show(last), show(low), show(high))
		case 0:
			b.refuse("gap", "no threshold has the score %s, and the score goes from %s to %s: cover it", show(first), show(low), show(high))
		}
	}
	before := bands[0] // which reaches farthest so far
	missing(low, new(big.Int).Sub(before.first, one))
	for _, t := range bands[1:] {
		if t.first.Cmp(before.last) <= 0 {
			b.refuse("overlap", "the thresholds %q and %q have scores in common: part them", before.Threshold, t.Threshold)
		} else {
			missing(new(big.Int).Add(before.last, one), new(big.Int).Sub(t.first, one))
		}
		if t.last.Cmp(before.last) > 0 {
			before = t
		}
	}
	missing(new(big.Int).Add(before.last, one), high)
}

// band reads one threshold.
func (b *builder) band(i int, t Threshold, decimals int32) (band, bool) {
	before := len(b.faults)
	done := band{Threshold: t}
	bound := func(name, text string, into **apd.Decimal) {
		if text == "" {
			return
		}
		d, err := decimal(text, 15)
		if err != nil {
			b.refuse("bound", "threshold %d, %s: %v", i+1, name, err)
			return
		}
		*into = d
	}
	bound("from", t.From, &done.from)
	bound("above", t.Above, &done.above)
	bound("to", t.To, &done.to)
	bound("below", t.Below, &done.below)
	if t.From != "" && t.Above != "" || t.To != "" && t.Below != "" {
		b.refuse("bound", "threshold %d has two bounds at one end: say from or above, and to or below", i+1)
	}
	if len(b.faults) > before {
		return done, false
	}
	// First and last are the outermost whole steps within the bounds.
	one := big.NewInt(1)
	switch {
	case done.from != nil:
		done.first = steps(done.from, decimals, true)
	case done.above != nil:
		done.first = steps(done.above, decimals, false)
		done.first.Add(done.first, one)
	default:
		done.first = new(big.Int).Neg(endless())
	}
	switch {
	case done.to != nil:
		done.last = steps(done.to, decimals, false)
	case done.below != nil:
		done.last = steps(done.below, decimals, true)
		done.last.Sub(done.last, one)
	default:
		done.last = endless()
	}
	if done.first.Cmp(done.last) > 0 {
		b.refuse("empty", "threshold %d, %q, has no score that there can be: mend its bounds or leave it out", i+1, t)
		return done, false
	}
	return done, true
}

// endless is beyond every bound and every score.
func endless() *big.Int { return new(big.Int).Lsh(big.NewInt(1), 200) }

// span returns the lowest and the highest score that there can be, in steps.
func span(questions []asked, decimals int32) (low, high *big.Int, err error) {
	var lows, highs total
	for _, q := range questions {
		if len(q.Choices) == 0 {
			continue // refused
		}
		values := make([]int, len(q.Choices))
		for i, c := range q.Choices {
			values[i] = c.Value
		}
		lows.add(int64(slices.Min(values)), q.weight)
		highs.add(int64(slices.Max(values)), q.weight)
	}
	lowest, err := lows.value()
	if err != nil {
		return nil, nil, err
	}
	highest, err := highs.value()
	if err != nil {
		return nil, nil, err
	}
	return steps(lowest, decimals, false), steps(highest, decimals, true), nil
}
