package risk

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// Numbers are exact decimals. Weights have at most 6 digits before the point and 6
// after it, answers at most 7, a questionnaire at most 200 questions: every sum
// has at most 22 digits, so that within the 34 of a context nothing is ever
// rounded. That it was not is checked all the same.
const (
	digits   = 34
	whole    = 6 // digits of a weight before the point
	fraction = 6 // digits after the point
	maxValue = 1_000_000
)

// exactly is arithmetic that fails rather than round.
func exactly() *apd.Context {
	c := apd.BaseContext.WithPrecision(digits)
	c.Traps |= apd.Inexact
	return c
}

// decimal reads an exact decimal in plain notation: no exponent, no infinity.
func decimal(text string, whole int) (*apd.Decimal, error) {
	before, after, point := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if !onlyDigits(before, whole) || point && !onlyDigits(after, fraction) {
		return nil, fmt.Errorf("%q is no decimal with 1 to %d digits and up to %d after the point: write it as 25 or 0.5", text, whole, fraction)
	}
	d, _, err := apd.NewFromString(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no decimal: %w", text, err)
	}
	return tidy(d)
}

func onlyDigits(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// weight reads a weight: above 0, 1 where nothing is said.
func (b *builder) weight(of, text string) *apd.Decimal {
	if text == "" {
		return apd.New(1, 0)
	}
	d, err := decimal(text, whole)
	switch {
	case err != nil:
		b.refuse("weight", "the weight of %s: %v", of, err)
	case d.Sign() <= 0:
		b.refuse("weight", "the weight of %s is %s: it must be above 0; leave out what does not count", of, text)
	default:
		return d
	}
	return apd.New(1, 0) // it is refused anyhow
}

// tidy writes d without trailing zeros after the point and without an exponent, so
// that equal numbers are the same text.
func tidy(d *apd.Decimal) (*apd.Decimal, error) {
	d.Reduce(d)
	if d.Exponent > 0 {
		if _, err := exactly().Quantize(d, d, 0); err != nil {
			return nil, fmt.Errorf("%s has more than %d digits: %w", d, digits, err)
		}
	}
	if d.IsZero() {
		d.Negative = false
	}
	return d, nil
}

// total is a sum of products that is exact or an error.
type total struct {
	sum apd.Decimal
	err error
}

func (t *total) add(value int64, weight *apd.Decimal) {
	if t.err != nil {
		return
	}
	var product apd.Decimal
	if _, t.err = exactly().Mul(&product, apd.New(value, 0), weight); t.err == nil {
		_, t.err = exactly().Add(&t.sum, &t.sum, &product)
	}
}

func (t *total) value() (*apd.Decimal, error) {
	if t.err != nil {
		return nil, fmt.Errorf("exact sum: %w", t.err)
	}
	return tidy(new(apd.Decimal).Set(&t.sum))
}

// average is a weighted mean of whole numbers from 1 to n: sum(value x weight) /
// sum(weight), any fraction rounded up (DOMAIN 1.4).
type average struct {
	values, weights *apd.Decimal // the sums
	score           *apd.Decimal // their quotient; where it does not end, rounded up in its 34th digit
	up              int          // the quotient rounded up to a whole number, from the exact sums
}

func averaged(values []int64, weights []*apd.Decimal, n int) (a average, err error) {
	var top, bottom total
	for i, v := range values {
		top.add(v, weights[i])
		bottom.add(1, weights[i])
	}
	if a.values, err = top.value(); err != nil {
		return a, err
	}
	if a.weights, err = bottom.value(); err != nil {
		return a, err
	}
	for k := 1; k <= n && a.up == 0; k++ {
		var product apd.Decimal
		if _, err = exactly().Mul(&product, apd.New(int64(k), 0), a.weights); err != nil {
			return a, fmt.Errorf("exact product: %w", err)
		}
		if product.Cmp(a.values) >= 0 {
			a.up = k
		}
	}
	if a.up == 0 {
		return a, fmt.Errorf("the mean %s/%s is above %d", a.values, a.weights, n)
	}
	up := apd.BaseContext.WithPrecision(digits)
	up.Rounding = apd.RoundCeiling
	q := new(apd.Decimal)
	if _, err = up.Quo(q, a.values, a.weights); err != nil {
		return a, fmt.Errorf("mean: %w", err)
	}
	a.score, err = tidy(q)
	return a, err
}

// String writes the mean for people: "1200/320 = 3.75".
func (a average) String() string {
	if a.score.Exponent >= -4 {
		return fmt.Sprintf("%s/%s = %s", a.values, a.weights, a.score)
	}
	short := new(apd.Decimal)
	up := apd.BaseContext.WithPrecision(digits)
	up.Rounding = apd.RoundCeiling
	if _, err := up.Quantize(short, a.score, -4); err != nil {
		return fmt.Sprintf("%s/%s", a.values, a.weights)
	}
	return fmt.Sprintf("%s/%s, about %s", a.values, a.weights, short)
}

// steps returns d in steps of 10^-places, rounded down or up to a whole one.
func steps(d *apd.Decimal, places int32, up bool) *big.Int {
	n := new(big.Int).Set(d.Coeff.MathBigInt())
	if d.Negative {
		n.Neg(n)
	}
	power := func(e int32) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(e)), nil) }
	e := d.Exponent + places
	switch {
	case e >= 0:
		return n.Mul(n, power(e))
	case up: // Div rounds down, since the divisor is positive
		return n.Neg(n.Div(n.Neg(n), power(-e)))
	default:
		return n.Div(n, power(-e))
	}
}

// places returns how many digits d has after the point.
func places(d *apd.Decimal) int32 { return max(0, -d.Exponent) }

// small reports whether v can be the value of an answer.
func small(v int) bool { return v >= -maxValue && v <= maxValue }
