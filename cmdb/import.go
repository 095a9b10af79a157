package cmdb

import (
	"context"
	"fmt"
	"slices"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
)

// Observation is what a source sees now: all of what it answers for, or a part
// if vanished items are ignored.
type Observation struct {
	Items []ObservedItem
}

// ObservedItem is one thing that a source sees.
type ObservedItem struct {
	Key        string            // by which the source knows it; once in an observation
	CI         string            // the CI that it is; once in an observation
	Class      string            //
	Attributes map[string]string // in any form that can be brought into the canonical one; empty ones are not set
	Relations  []ObservedRelation
}

// ObservedRelation is a relation of an item, by either name of its type.
type ObservedRelation struct {
	Relation string
	To       string // the other item's key
}

// Vanished says what is done with what a source reported before and no longer does.
type Vanished int

// What is done with what has vanished.
const (
	VanishedIgnore Vanished = iota // nothing, and it is counted each time
	VanishedMark                   // its status becomes "out of use"
	VanishedRetire                 // it is retired
)

// ImportOptions say how an observation is taken in.
type ImportOptions struct {
	Batch    int // items an append; default 200, at most 500
	Vanished Vanished
	Reason   string // in the actor's words
}

const (
	defaultBatch = 200
	maxBatch     = 500
	maxKey       = 255     // bytes
	batchBytes   = 1 << 20 // of deltas, after which an append is full
	batchDeltas  = 5_000
	eventBytes   = 256 << 10 // of deltas, after which an event is full
)

// Imported says what an import did.
type Imported struct {
	Added     int // CIs
	Changed   int // CIs of which an attribute or a relation was brought up to date
	Unchanged int // CIs
	Vanished  int // keys that are no longer reported
	Skipped   []Skipped
	Events    int
	Batches   int                 // appends
	Position  eventstore.Position // of the last event; 0 if nothing was to be recorded
}

// Skipped is something observed that was not taken, and stays out until the
// observation or the graph is another.
type Skipped struct {
	Key    string
	CI     string
	Rule   string // of Problem; "class-differs", "retired-by-others", "unknown-key"
	Reason string
}

const (
	ruleClassDiffers = "class-differs"     // the CI is of another class than the source says
	ruleByOthers     = "retired-by-others" // somebody retired the CI while the source still reports it
	ruleUnknownKey   = "unknown-key"       // a relation names a key that the source never reported
	ruleObservation  = "observation-malformed"
	ruleNothing      = "nothing-observed" // everything would vanish
)

// Import brings the graph up to what a source observes and records the
// differences in "source-NAME". It goes through the observation in batches of
// one append each; one that was interrupted goes on where it was when it is run
// again, and one that finds nothing changed records nothing.
//
// What differs is set, whoever set it before. An attribute or a relation that
// the source itself brought and no longer reports is taken away; what others
// recorded beside it stays. What cannot be taken is skipped, with the reason.
// An observation of nothing, where what has vanished is to be marked or retired,
// is refused: a source that could not look must not retire everything.
func (s *Service) Import(ctx context.Context, actor command.Actor, name string, observed Observation, options ImportOptions) (Imported, error) {
	if options.Batch == 0 {
		options.Batch = defaultBatch
	}
	i := &importing{
		service: s, source: name, items: observed.Items, options: options,
		call:  command.Call{Actor: actor, Action: ActionImport, Reason: options.Reason},
		byKey: map[string]string{}, outcome: make([]outcome, len(observed.Items)),
	}
	if checkName("source", name) == nil {
		i.call.Target = name
	}
	for _, step := range []func(context.Context) error{i.vanish, i.add, i.relate} {
		if err := step(ctx); err != nil {
			return i.done, err
		}
	}
	i.done.Skipped = once(i.done.Skipped)
	for _, o := range i.outcome {
		switch o {
		case added:
			i.done.Added++
		case changed:
			i.done.Changed++
		case unchanged:
			i.done.Unchanged++
		}
	}
	return i.done, nil
}

// importing is one run of Import.
type importing struct {
	service *Service
	call    command.Call
	source  string
	items   []ObservedItem
	options ImportOptions
	byKey   map[string]string              // CIs, of the items
	wanted  map[string]map[Relation]string // relations by the CI they go out from, with the key of the item that says so
	outcome []outcome
	done    Imported
}

type outcome int

const (
	unchanged outcome = iota
	changed
	added
	skipped
)

// malformed returns why the import cannot be meant.
func (i *importing) malformed() error {
	var wrong []command.Refusal
	refuse := func(rule, field, reason, remedy string) {
		if len(wrong) < 20 {
			wrong = append(wrong, command.Refusal{Kind: command.Malformed, Rule: rule, Field: field, Reason: reason, Remedy: remedy})
		}
	}
	if err := checkName("source", i.source); err != nil {
		refuse(ruleObservation, "source", err.Error(), "name the source")
	}
	if i.options.Batch < 1 || i.options.Batch > maxBatch {
		refuse(ruleObservation, "options.batch", fmt.Sprintf("it is %d, outside 1 to %d", i.options.Batch, maxBatch), "leave it at 0 for the default")
	}
	if i.options.Vanished < VanishedIgnore || i.options.Vanished > VanishedRetire {
		refuse(ruleObservation, "options.vanished", fmt.Sprintf("it is %d, which there is not", i.options.Vanished), "take one of the Vanished constants")
	}
	if len(i.items) == 0 && i.options.Vanished != VanishedIgnore {
		refuse(ruleNothing, "items", "nothing was observed, and all that was is to vanish", "see whether the source could look; import with VanishedIgnore if it could")
	}
	clear(i.byKey)
	cis := map[string]string{}
	for n, item := range i.items {
		field := fmt.Sprintf("items[%d]", n)
		if err := checkKey(item.Key); err != nil {
			refuse(ruleObservation, field+".key", err.Error(), "correct the observation")
		} else if _, twice := i.byKey[item.Key]; twice {
			refuse(ruleObservation, field+".key", fmt.Sprintf("key %q stands twice", item.Key), "name each item once")
		}
		if err := CheckID(item.CI); err != nil {
			refuse(ruleObservation, field+".ci", err.Error(), "correct the observation")
		} else if key, twice := cis[item.CI]; twice {
			refuse(ruleObservation, field+".ci", fmt.Sprintf("CI %q has the keys %q and %q", item.CI, key, item.Key), "name each CI once")
		}
		if len(item.Attributes) > maxAttributes {
			refuse(ruleObservation, field+".attributes", fmt.Sprintf("there are %d, of at most %d", len(item.Attributes), maxAttributes), "leave some out")
		}
		i.byKey[item.Key], cis[item.CI] = item.CI, item.Key
	}
	return command.Refuse(wrong...)
}

func checkKey(key string) error {
	if key == "" || len(key) > maxKey || !plain(key, "") {
		return fmt.Errorf("a key has 1 to %d bytes of valid UTF-8 without control characters, unlike %q", maxKey, clip(key))
	}
	return nil
}

// once leaves out what stands twice, since what is tried again is skipped again.
func once(all []Skipped) []Skipped {
	seen := map[Skipped]bool{}
	return slices.DeleteFunc(all, func(s Skipped) bool {
		twice := seen[s]
		seen[s] = true
		return twice
	})
}
