package workflow

import (
	"slices"
)

func (c *check) stages() {
	used := c.usedStages()
	seen := map[string]bool{}
	for _, s := range c.m.Stages {
		at := atStage(s.Name)
		c.name(at, s.Name)
		c.text(at, "title", s.Title)
		if seen[s.Name] {
			c.fault("stage-twice", at, "two stages have this name: rename one")
		} else if !used[s.Name] {
			c.fault("unused-stage", at, "no phase and no row names it: name it, or leave it out")
		}
		seen[s.Name] = true
		if len(s.Candidates) == 0 {
			c.fault("stage-without-candidates", at, "it asks nobody: name a person, group, role or the owners")
		}
		for _, one := range s.Candidates {
			c.candidate(at, one)
		}
		for _, one := range s.Escalate {
			c.candidate(at, one)
		}
		for _, person := range s.Required {
			if !id(person) {
				c.fault("bad-candidate", at, "the required approver %q cannot be a person: name one", person)
			}
		}
		c.rule(at, s)
		if s.Deadline < 0 {
			c.fault("negative-duration", at, "its deadline is %v: use 0 for none, or more", s.Deadline)
		}
		if len(s.Escalate) > 0 && s.Deadline == 0 {
			c.fault("escalation-without-deadline", at, "it says whom to ask when the deadline passes, and has none: set one, or leave the escalation out")
		}
	}
}

// usedStages returns the stages that a phase or a row names.
func (c *check) usedStages() map[string]bool {
	used := map[string]bool{}
	for _, p := range c.m.Phases {
		for _, name := range p.Stages {
			used[name] = true
		}
		if p.Table == nil {
			continue
		}
		for _, row := range p.Table.Rows {
			for _, name := range row.Stages {
				used[name] = true
			}
		}
	}
	return used
}

func (c *check) candidate(at string, one Candidate) {
	set := 0
	for _, name := range []string{one.Person, one.Group, one.Role} {
		if name == "" {
			continue
		}
		set++
		if !id(name) {
			c.fault("bad-candidate", at, "the candidate %q cannot be a name: it has spaces around it, control characters, or is too long", name)
		}
	}
	if one.Owners {
		set++
	}
	if set != 1 {
		c.fault("bad-candidate", at, "a candidate names %d of person, group, role and owners: name exactly one, and add a candidate for each other", set)
	}
	if one.EachMember && one.Group == "" && one.Role == "" {
		c.fault("bad-candidate", at, "a candidate that is no group or role has no members: leave each member out")
	}
}

func (c *check) rule(at string, s Stage) {
	switch r := s.Rule; r.Counting {
	case First, All:
		if r.N != 0 {
			c.fault("bad-rule", at, "%q takes no number, and %d is given: leave it out", r.Counting, r.N)
		}
	case Percent:
	case AtLeast:
		if r.N < 1 {
			c.fault("bad-rule", at, "it asks for %d people: ask for at least 1", r.N)
		}
		if people, all := namedPeople(s); all && r.N > people {
			c.fault("bad-rule", at, "it asks for %d people and names only %d: name more, or ask for fewer", r.N, people)
		}
	default:
		c.fault("bad-rule", at, "%q is no way of counting: use one of %s", r.Counting, list([]Counting{First, All, Percent, AtLeast}))
	}
}

// namedPeople returns how many people a stage names, and whether it can ask no others.
func namedPeople(s Stage) (n int, all bool) {
	people := slices.Clone(s.Required)
	for _, one := range slices.Concat(s.Candidates, s.Escalate) {
		if one.Person == "" {
			return 0, false
		}
		people = append(people, one.Person)
	}
	slices.Sort(people)
	return len(slices.Compact(people)), len(people) > 0
}
