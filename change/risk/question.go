package risk

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/rollforward/rollforward/change"
)

// Question is asked of the person who raises a change; what is answered comes with
// change.Facts.Answers. Two engines may ask for the same one.
type Question struct {
	ID      string   `json:"id"`
	Text    string   `json:"text,omitzero"`
	Weight  string   `json:"weight,omitzero"` // an exact decimal above 0; empty is 1
	Choices []Choice `json:"choices,omitzero"`
}

// Choice is a possible answer, with the number that it counts for.
type Choice struct {
	Text  string `json:"text,omitzero"`
	Value int    `json:"value"`
}

// takes reports whether value is one of the choices; without choices, any is.
func (q Question) takes(value int) bool {
	return len(q.Choices) == 0 || slices.ContainsFunc(q.Choices, func(c Choice) bool { return c.Value == value })
}

// asked is a question that was checked.
type asked struct {
	Question
	weight *apd.Decimal
}

// questions checks questions and copies them.
func (b *builder) questions(list []Question) []asked {
	b.count("questions", len(list), 200)
	seen := map[string]bool{}
	all := make([]asked, 0, len(list))
	for i, q := range list {
		b.name(fmt.Sprintf("question %d", i+1), q.ID)
		b.twice(seen, "question", q.ID)
		b.text(fmt.Sprintf("question %q", q.ID), q.Text)
		if len(q.Choices) > 100 {
			b.refuse("count", "question %q has %d choices: at most 100", q.ID, len(q.Choices))
		}
		for j, c := range q.Choices {
			of := fmt.Sprintf("choice %d of question %q", j+1, q.ID)
			b.text(of, c.Text)
			if !small(c.Value) {
				b.refuse("value", "%s counts for %d: give a number from %d to %d", of, c.Value, -maxValue, maxValue)
			}
			if slices.IndexFunc(q.Choices, func(o Choice) bool { return o.Value == c.Value }) != j {
				b.refuse("twice", "%s counts for %d like another: the number is what is recorded, so give each its own", of, c.Value)
			}
		}
		all = append(all, asked{q, b.weight(fmt.Sprintf("question %q", q.ID), q.Weight)})
	}
	return all
}

// cloned copies questions so that nobody can change them afterwards.
func cloned(list []Question) []Question {
	list = slices.Clone(list)
	for i := range list {
		list[i].Choices = slices.Clone(list[i].Choices)
	}
	return list
}

// answer returns what was answered to a question. Where it cannot be told, missing
// says why.
func answer(f change.Facts, question string, takes func(int) bool) (value int, missing string) {
	found := false
	for _, a := range f.Answers {
		if a.Question != question {
			continue
		}
		if found && a.Value != value {
			return 0, fmt.Sprintf("question %q is answered twice, with %d and with %d", question, value, a.Value)
		}
		value, found = a.Value, true
	}
	switch {
	case !found:
		return 0, fmt.Sprintf("question %q is not answered", question)
	case !takes(value):
		return 0, fmt.Sprintf("question %q is answered with %d, which is none of its choices", question, value)
	}
	return value, ""
}
