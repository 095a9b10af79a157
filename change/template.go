package change

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/internal/workflow"
)

// TemplateVersion is one version of a standard-change template: what is
// authorised beforehand. It is proposed, approved by somebody else, published,
// and at last retired or followed by a newer version.
type TemplateVersion struct {
	Name    string   `json:"name"`
	Version int      `json:"version"` // from 1
	Text    Template `json:"text"`

	ProposedBy  []string  `json:"proposed_by"` // and on whose behalf
	ApprovedBy  []string  `json:"approved_by,omitzero"`
	PublishedAt time.Time `json:"published_at,omitzero"`
	RetiredAt   time.Time `json:"retired_at,omitzero"`
}

// Approved reports whether somebody has approved it.
func (t *TemplateVersion) Approved() bool { return t != nil && len(t.ApprovedBy) > 0 }

// Template is what a standard change may be. A change raised under it takes its
// title, category, plans and tasks, and may not alter the plans; it may touch only
// what the template allows.
type Template struct {
	Model      string         `json:"model,omitzero"` // whose authority is a template; default "standard"
	Title      string         `json:"title"`
	Category   string         `json:"category,omitzero"`
	Plans      Plans          `json:"plans"`
	Tasks      []TaskTemplate `json:"tasks,omitzero"`
	Classes    []string       `json:"classes,omitzero"`    // of the CIs it may declare; none is none
	Attributes []string       `json:"attributes,omitzero"` // that its deltas may set; none is none
	Longest    Duration       `json:"longest,omitzero"`    // of a window; 0 is no limit
}

// Proposed is recorded in "template-NAME" with every new version of a template.
type Proposed struct {
	Version int      `json:"version"`
	Text    Template `json:"text"`
	By      []string `json:"by"`
}

// TemplateApproved is recorded when somebody other than its proposer approves a version.
type TemplateApproved struct {
	Version int      `json:"version"`
	By      []string `json:"by"`
}

// TemplatePublished is recorded when changes may be raised under a version, in
// place of the one before.
type TemplatePublished struct {
	Version int       `json:"version"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

// TemplateRetired is recorded when no further changes may be raised under any
// version so far.
type TemplateRetired struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

func templateStream(name string) string { return "template-" + name }

// templates are the versions of a template, by their number.
type templates []TemplateVersion

var templateFolder = eventstore.Decider[templates, any]{Evolve: func(all templates, payload any) templates {
	all = slices.Clone(all)
	at := func(version int, alter func(t *TemplateVersion)) {
		if version >= 1 && version <= len(all) {
			alter(&all[version-1])
		}
	}
	switch e := payload.(type) {
	case Proposed:
		all = append(all, TemplateVersion{Version: e.Version, Text: e.Text, ProposedBy: e.By})
	case TemplateApproved:
		at(e.Version, func(t *TemplateVersion) { t.ApprovedBy = e.By })
	case TemplatePublished:
		at(e.Version, func(t *TemplateVersion) { t.PublishedAt = e.At })
	case TemplateRetired:
		for i := range all {
			if all[i].RetiredAt.IsZero() {
				all[i].RetiredAt = e.At
			}
		}
	}
	return all
}}

// current returns the version under which changes are raised: the published one
// with the highest number, nil if there is none.
func (all templates) current() *TemplateVersion {
	for i := range slices.Backward(all) {
		if !all[i].PublishedAt.IsZero() {
			return &all[i]
		}
	}
	return nil
}

func (all templates) version(n int) *TemplateVersion {
	if n < 1 || n > len(all) {
		return nil
	}
	return &all[n-1]
}

// fill takes over what the template says where c says nothing.
func (t *TemplateVersion) fill(c Content) Content {
	if t == nil {
		return c
	}
	for _, s := range []struct {
		to   *string
		from string
	}{
		{&c.Title, t.Text.Title}, {&c.Category, t.Text.Category}, {&c.Plans.Implementation, t.Text.Plans.Implementation},
		{&c.Plans.Backout, t.Text.Plans.Backout}, {&c.Plans.Test, t.Text.Plans.Test}, {&c.Plans.Communication, t.Text.Plans.Communication},
	} {
		if *s.to == "" {
			*s.to = s.from
		}
	}
	return c
}

func (t *TemplateVersion) tasks() []TaskTemplate {
	if t == nil {
		return nil
	}
	return t.Text.Tasks
}

// usable refuses a template under which no change may be raised.
func (d *decision) usable(t *TemplateVersion) {
	switch {
	case !t.RetiredAt.IsZero():
		d.refuse("template-retired", "template %q was retired at %s", "use another, or a normal change", t.Name, stamp(t.RetiredAt))
	case t.PublishedAt.IsZero() || !t.Approved():
		d.refuse("template-not-published", "template %q has no published version", "have it approved and published", t.Name)
	}
}

// fits refuses content that the change's template does not authorise (DOMAIN 1.1).
func (d *decision) fits(c Content) {
	if !d.on("outside-template") {
		return
	}
	t := d.template
	if t == nil {
		d.refuse("unknown-template", "template %q version %d cannot be found", "check the log", d.Template, d.TemplateVersion)
		return
	}
	const remedy = "use a normal change, or propose a new version of template %q"
	if c.Plans != t.Text.Plans {
		d.refuse("outside-template", "its plans are not those of the template", remedy, t.Name)
	}
	if d.graph != nil {
		for _, ci := range c.Declared() {
			if class := d.graph.classes[ci]; class != "" && !slices.Contains(t.Text.Classes, class) {
				d.refuse("outside-template", "CI %q is of class %q, and the template is for %s", remedy, ci, class, list(t.Text.Classes), t.Name)
			}
		}
	}
	for _, delta := range c.Deltas {
		if delta.Op != cmdb.OpSet {
			d.refuse("outside-template", "it would %s CI %q, and the template lets attributes be set", remedy, delta.Op, delta.CI, t.Name)
		} else if !slices.Contains(t.Text.Attributes, delta.Attribute) {
			d.refuse("outside-template", "it would set %q of CI %q, and the template lets %s be set", remedy, delta.Attribute, delta.CI, list(t.Text.Attributes), t.Name)
		}
	}
	if w := c.Window; w != nil && t.Text.Longest > 0 && w.End.Sub(w.Start) > time.Duration(t.Text.Longest) {
		d.refuse("outside-template", "its window of %s is longer than %s", remedy, w.End.Sub(w.Start), t.Text.Longest, t.Name)
	}
}

// ProposeTemplate records a new version of a template, for somebody else to
// approve. It returns the version.
func (s *Service) ProposeTemplate(ctx context.Context, actor command.Actor, name string, text Template) (TemplateVersion, error) {
	return s.template(ctx, actor, "template.propose", name, text, func(d *decision, all templates) any {
		d.text("name", name, 64, true)
		d.text("model", text.Model, workflow.MaxName, false)
		d.text("title", text.Title, maxTitle, true)
		d.text("category", text.Category, maxTitle, false)
		for _, plan := range []string{text.Plans.Implementation, text.Plans.Backout, text.Plans.Test, text.Plans.Communication} {
			d.text("plans", plan, maxText, false)
		}
		if strings.TrimSpace(text.Plans.Implementation) == "" {
			d.malformed("plans", "plan-required", "it does not say how it is carried out", "write the implementation plan: it is what is approved")
		}
		d.list("classes", text.Classes)
		d.list("attributes", text.Attributes)
		for i, t := range text.Tasks {
			d.checkTask(Task{Title: t.Title, Kind: t.Kind, Group: t.Group})
			if i >= maxTasks {
				d.malformed("tasks", "too-many", "there are %d", "use at most %d", len(text.Tasks), maxTasks)
				break
			}
		}
		if text.Longest < 0 {
			d.malformed("longest", "interval-invalid", "it is below 0", "give a duration, or 0 for none")
		}
		return Proposed{Version: len(all) + 1, Text: text, By: d.people()}
	})
}

// ApproveTemplate approves a version. Its proposer cannot (separation of duties).
func (s *Service) ApproveTemplate(ctx context.Context, actor command.Actor, name string, version int) (TemplateVersion, error) {
	return s.template(ctx, actor, "template.approve", name, version, func(d *decision, all templates) any {
		t := d.proposed(name, all, version)
		if t == nil {
			return nil
		}
		for _, p := range d.people() {
			if slices.Contains(t.ProposedBy, p) && d.on("template-separation") {
				d.refuse("separation-of-duties", "%s proposed version %d of template %q and cannot approve it", "ask somebody else", p, version, name)
			}
		}
		if t.Approved() {
			d.refuse("template-state", "version %d of template %q is approved already", "publish it", version, name)
		}
		if !t.RetiredAt.IsZero() {
			d.refuse("template-retired", "version %d of template %q is retired", "propose a new version", version, name)
		}
		return TemplateApproved{Version: version, By: d.people()}
	})
}

// PublishTemplate lets changes be raised under an approved version, in place of
// the one before.
func (s *Service) PublishTemplate(ctx context.Context, actor command.Actor, name string, version int) (TemplateVersion, error) {
	return s.template(ctx, actor, "template.publish", name, version, func(d *decision, all templates) any {
		t := d.proposed(name, all, version)
		if t == nil {
			return nil
		}
		switch now := all.current(); {
		case !t.Approved():
			d.refuse("template-not-approved", "version %d of template %q is not approved", "have it approved", version, name)
		case !t.RetiredAt.IsZero():
			d.refuse("template-retired", "version %d of template %q is retired", "propose a new version", version, name)
		case now != nil && now.Version >= version:
			d.refuse("template-state", "version %d of template %q is published", "propose a new version", now.Version, name)
		}
		return TemplatePublished{Version: version, By: d.actor.ID, At: d.now}
	})
}

// RetireTemplate lets no further changes be raised under a template. Those raised
// before keep their authorisation.
func (s *Service) RetireTemplate(ctx context.Context, actor command.Actor, name, reason string) (TemplateVersion, error) {
	return s.template(ctx, actor, "template.retire", name, reason, func(d *decision, all templates) any {
		d.text("reason", reason, maxText, true)
		switch {
		case len(all) == 0:
			d.malformed("name", "unknown-template", "there is no template %q", "check its name", name)
		case !all[len(all)-1].RetiredAt.IsZero():
			d.refuse("template-retired", "template %q is retired", "nothing is to be done", name)
		}
		return TemplateRetired{By: d.actor.ID, Reason: reason, At: d.now}
	})
}

// proposed returns a version, or refuses.
func (d *decision) proposed(name string, all templates, version int) *TemplateVersion {
	t := all.version(version)
	if t == nil {
		d.malformed("version", "unknown-template", "there is no version %d of template %q", "propose it first", version, name)
	}
	return t
}

// template runs one command on a template and returns its latest version, or the
// one that the command is about.
func (s *Service) template(ctx context.Context, actor command.Actor, action, name string, content any, decide func(d *decision, all templates) any) (TemplateVersion, error) {
	var after templates
	_, err := s.door.Do(ctx, command.Call{Actor: actor, Action: action, Target: name, Content: content}, func(tx *command.Tx) error {
		d := &decision{facts: facts{now: tx.Now, actor: tx.Call.Actor, without: s.without}}
		if name == "" || len(name) > 64 {
			d.malformed("name", "name-required", "it has %d bytes", "use 1 to 64", len(name))
			return command.Refuse(d.refused...)
		}
		all, err := templateFolder.Load(tx.Tx, templateStream(name))
		if err != nil {
			return err
		}
		if err := tx.Authorize(action, name, nil); err != nil {
			return err
		}
		event := decide(d, all)
		if err := command.Refuse(d.refused...); err != nil {
			return err
		}
		if err := tx.Record(templateStream(name), event); err != nil {
			return err
		}
		after, err = templateFolder.Load(tx.Tx, templateStream(name))
		return err
	})
	if err != nil {
		return TemplateVersion{}, err
	}
	t := after[len(after)-1]
	if version, ok := content.(int); ok {
		t = *after.version(version)
	}
	t.Name = name
	return t, nil
}

// Template returns the versions of a template, none if there never was one.
func (s *Service) Template(ctx context.Context, name string) ([]TemplateVersion, error) {
	var all templates
	_, err := eventstore.Update(ctx, s.store, s.registry, func(tx *eventstore.Tx) (err error) {
		all, err = templateFolder.Load(tx, templateStream(name))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("template %q: %w", name, err)
	}
	for i := range all {
		all[i].Name = name
	}
	return all, nil
}
