package change

import (
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Map returns the facts as the plain values that an [Expressions] hook judges,
// under the names by which conditions speak of them: bool, int64, string,
// time.Duration, []any and map[string]any, and nothing else. Every name is always
// there.
//
// Text that is not known is empty, and so is an amount that nobody has given.
// "lead_time" is 0 without a window, as if it started now; "planned" tells the two
// apart. "criticality" has all five levels, also where none of their CIs is
// touched; "classes", "answers" and "history" have only what there is. Amounts are
// text, since they are exact. "cis" and "impacted_cis" are cut at 50, and
// "environments" are those of the CIs in these two.
func (f Facts) Map() map[string]any {
	environments := map[string]bool{}
	for _, list := range [][]FactCI{f.CIs, f.Top} {
		for _, ci := range list {
			if ci.Environment != "" {
				environments[ci.Environment] = true
			}
		}
	}
	named := make([]string, 0, len(environments))
	for name := range environments {
		named = append(named, name)
	}
	slices.Sort(named)

	criticality := factCounts([]Counted{{"critical", 0}, {"high", 0}, {"moderate", 0}, {"low", 0}, {"unknown", 0}}, f.Criticality)
	answers := make(map[string]any, len(f.Answers))
	for _, a := range f.Answers {
		answers[a.Question] = int64(a.Value)
	}
	history := make(map[string]any, len(f.History))
	for _, h := range f.History {
		history[h.Of] = map[string]any{
			"successful": int64(h.Successful), "with_issues": int64(h.WithIssues), "unsuccessful": int64(h.Unsuccessful),
			"incidents_p1": int64(h.IncidentsMajor), "incidents_p2": int64(h.IncidentsHigh), "incidents_p3": int64(h.IncidentsOther),
		}
	}
	lead := time.Duration(0)
	if f.Planned {
		lead = factDuration(f.LeadTime)
	}
	return map[string]any{
		"change": f.Change, "model": f.Model, "template": f.Template, "category": f.Category, "group": f.Group, "origin": f.Origin,
		"cis": factIDs(f.CIs), "deltas": int64(f.Deltas),
		"impacted": int64(f.Impacted), "impacted_cis": factIDs(f.Top), "criticality": criticality, "classes": factCounts(f.Classes),
		"degraded": factTexts(f.Degraded), "environments": factTexts(named),
		"lead_time": lead, "planned": f.Planned, "outage": factDuration(f.Outage), "backout": f.Backout, "tested": f.Tested,
		"conflicts": int64(f.Conflicts), "timed": f.Timed,
		"answers": answers, "history": history,
		"cost": factAmount(f.Cost), "benefit": factAmount(f.Benefit), "urgency": factAmount(f.Urgency),
	}
}

func factIDs(cis []FactCI) []any {
	all := make([]any, len(cis))
	for i, ci := range cis {
		all[i] = ci.ID
	}
	return all
}

func factTexts(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}

// factCounts adds up the counts of each name.
func factCounts(lists ...[]Counted) map[string]any {
	all := map[string]any{}
	for _, list := range lists {
		for _, c := range list {
			n, _ := all[c.Name].(int64)
			all[c.Name] = n + int64(c.Count)
		}
	}
	return all
}

// factDuration is s as a duration; beyond the 292 years that one can hold it is
// the longest there is.
func factDuration(s Seconds) time.Duration {
	const longest = Seconds(math.MaxInt64 / int64(time.Second))
	return min(max(s, -longest), longest).Duration()
}

// factAmount writes an exact decimal, empty for none.
func factAmount(d *apd.Decimal) string {
	if d == nil {
		return ""
	}
	return d.String()
}
