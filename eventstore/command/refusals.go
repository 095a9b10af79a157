package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
)

const (
	refusalsPrefix = "refusals-" // and YYYY-MM, by the door's clock
	maxRefused     = 1 << 10     // payload of one CommandRefused, in bytes
	maxRule        = 128         // its name, in bytes
	maxPairs       = 4096        // live tallies, beyond which actors and then rules are counted together
	recordTimeout  = 2 * time.Second
	batch          = 500 // events an append
)

// pair is by what refusals are tallied.
type pair struct{ actor, rule string }

// tally is the number of refusals of one pair within a minute.
type tally struct {
	listed      int
	counted     uint64 // beyond those listed
	next        uint64 // the number at which the count is recorded
	recorded    uint64 // of those counted
	from, until time.Time
}

// refusals are tallied by the minute of the door's clock.
type refusals struct {
	mu     sync.Mutex
	minute atomic.Int64 // Unix minute of live; changed under mu
	owing  atomic.Bool  // live has counts that are not recorded
	live   map[pair]*tally
}

// entry is an event to be recorded, and the number of refusals it stands for.
type entry struct {
	stream  string
	meta    eventstore.Metadata
	payload any
	number  uint64
	id      uuid.UUID // of the refusal of a call with a key, always the same; else Nil
}

// refusalID is the ID of the event for a refusal of a call with a key: a program that
// repeats the call after a crash, as it has to, is not refused another time by that.
// A call without a key has none.
func refusalID(call Call, r Refusal) uuid.UUID {
	if call.Key == "" {
		return uuid.Nil
	}
	sum := digest([]byte(call.Actor.ID), []byte(call.Actor.Principal()), []byte(call.Key), []byte(call.Action), []byte(call.Target),
		[]byte(r.Rule), []byte(r.Field), []byte(r.Kind), []byte(r.Reason))
	return uuid.NewSHA1(refusalSpace, sum[:])
}

var refusalSpace = uuid.MustParse("b1f5f1f2-3f0a-5c0e-8f7e-6d0a9c1e5b42")

// refuse counts what e refuses and records it. That is tried for 2 s at most and
// does not change what the caller is told.
func (d *Door) refuse(ctx context.Context, e *Error) {
	entries := d.tally(d.metadata(ctx, e.Call), e)
	if err := d.record(ctx, entries); err != nil {
		d.config.Logger.Warn("refusals could not be recorded", "action", e.Call.Action, "actor", e.Call.Actor.ID, "rule", e.Refusals[0].Rule, "error", err)
	}
}

func (d *Door) tally(meta eventstore.Metadata, e *Error) []entry {
	var entries []entry
	now := d.Now()                 // whenever what is refused says that it happened
	meta.Reason, meta.Key = "", "" // so that what a refusal takes is bounded
	d.refusals.mu.Lock()
	defer d.refusals.mu.Unlock()
	for _, r := range e.Refusals {
		switch r.Kind {
		case Malformed:
			d.counts.malformed.Add(1)
			continue
		case Denied:
			d.counts.denied.Add(1)
		case Unavailable:
			d.counts.unavailable.Add(1)
		default:
			d.counts.refused.Add(1)
		}
		id := refusalID(e.Call, r)
		if id != uuid.Nil && slices.ContainsFunc(entries, func(e entry) bool { return e.id == id }) {
			continue // it says the same thing twice
		}
		entries = append(entries, d.refusals.turn(now)...)
		p, t := d.refusals.of(e.Call.Actor.ID, r.Rule)
		if p.actor != "" && t.listed < d.config.RefusalsPerMinute {
			t.listed++
			entries = append(entries, entry{monthOf(now), meta, refused(e.Call, r), 1, id})
			continue
		}
		d.counts.counted.Add(1)
		if t.counted == t.recorded {
			t.from = now
		}
		t.counted, t.until = t.counted+1, now
		if t.counted == t.next {
			entries = append(entries, t.record(p))
			t.next *= 10
		} else {
			d.refusals.owing.Store(true)
		}
	}
	return entries
}

// of returns the tally of a pair, or that of a wider one when there are too
// many. Some rules are named by hooks, so that their length and number is theirs.
func (r *refusals) of(actor, rule string) (pair, *tally) {
	p := pair{actor, cut(plain(rule), maxRule)}
	if r.live[p] == nil && len(r.live) >= maxPairs {
		p.actor = ""
		if r.live[p] == nil && len(r.live) >= maxPairs+maxPairs/16 {
			p.rule = ""
		}
	}
	t := r.live[p]
	if t == nil {
		t = &tally{next: 100}
		r.live[p] = t
	}
	return p, t
}

// record returns the event for what was counted since the last one.
func (t *tally) record(p pair) entry {
	number := t.counted - t.recorded
	t.recorded = t.counted
	return entry{
		monthOf(t.from), eventstore.Metadata{OccurredAt: t.until},
		RefusalsCounted{Actor: p.actor, Rule: p.rule, From: t.from, Until: t.until, Count: number}, number, uuid.Nil,
	}
}

// turn begins a new minute if now is of another one, and returns the events for
// what was counted in the one before. mu is held.
func (r *refusals) turn(now time.Time) []entry {
	minute := now.Unix() / 60
	if r.minute.Load() == minute {
		return nil
	}
	entries := r.take()
	r.minute.Store(minute)
	return entries
}

// take empties the tallies and returns the events for what they owe, by actor
// and rule. mu is held.
func (r *refusals) take() []entry {
	var owed []pair
	for p, t := range r.live {
		if t.counted > t.recorded {
			owed = append(owed, p)
		}
	}
	slices.SortFunc(owed, func(a, b pair) int {
		if c := strings.Compare(a.actor, b.actor); c != 0 {
			return c
		}
		return strings.Compare(a.rule, b.rule)
	})
	entries := make([]entry, len(owed))
	for i, p := range owed {
		entries[i] = r.live[p].record(p)
	}
	clear(r.live)
	r.owing.Store(false)
	return entries
}

// flushDue records what was counted in a minute that is over. It costs two loads
// where there is nothing.
func (d *Door) flushDue(ctx context.Context) {
	if !d.refusals.owing.Load() {
		return
	}
	if now := d.Now(); now.Unix()/60 != d.refusals.minute.Load() {
		_ = d.flush(ctx, now) // told to the logger
	}
}

// flush records what was counted: of a minute that is not now's, or all of it
// where now is zero.
func (d *Door) flush(ctx context.Context, now time.Time) error {
	d.refusals.mu.Lock()
	var entries []entry
	if now.IsZero() {
		entries = d.refusals.take()
	} else {
		entries = d.refusals.turn(now)
	}
	d.refusals.mu.Unlock()
	err := d.record(ctx, entries)
	if err != nil {
		d.config.Logger.Warn("counts of refusals could not be recorded", "error", err)
	}
	return err
}

// record appends entries, under no condition. It does not end with ctx, whose
// command has been answered, but soon.
func (d *Door) record(ctx context.Context, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	for done := 0; done < len(entries); {
		some := entries[done:min(done+batch, len(entries))]
		err := d.append(ctx, some)
		if errors.Is(err, eventstore.ErrDuplicate) {
			// Some are there already: of a call with a key that came before.
			err = nil
			for i := range some {
				if one := d.append(ctx, some[i:i+1]); one != nil && !errors.Is(one, eventstore.ErrDuplicate) {
					err = one
				}
			}
		}
		if err != nil {
			for _, e := range entries[done:] {
				d.counts.unrecorded.Add(e.number)
			}
			return fmt.Errorf("record refusals: %w", err)
		}
		done += len(some)
	}
	return nil
}

// append records entries, all or none.
func (d *Door) append(ctx context.Context, entries []entry) error {
	records, err := eventstore.Update(ctx, d.config.Store, d.config.Registry, func(tx *eventstore.Tx) error {
		for _, e := range entries {
			tx.Meta, tx.NewID = e.meta, nil
			if e.id != uuid.Nil {
				tx.NewID = func() uuid.UUID { return e.id }
			}
			if err := tx.RecordBlind(e.stream, e.payload); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		d.advance(records[len(records)-1].Position)
	}
	return err
}

func monthOf(t time.Time) string { return refusalsPrefix + t.Format("2006-01") }

// refused returns the payload of a refusal, cut to maxRefused bytes of JSON:
// first the reason, then the target, then what is short already unless somebody
// chose it not to be.
func refused(call Call, r Refusal) CommandRefused {
	e := CommandRefused{
		Action: call.Action, Target: call.Target, Actor: call.Actor.ID, OnBehalfOf: call.Actor.OnBehalfOf,
		Rule: cut(plain(r.Rule), maxRule), Kind: r.Kind, Reason: cut(plain(r.Reason), maxRefused),
	}
	for _, text := range []*string{&e.Reason, &e.Target, &e.OnBehalfOf, &e.Action, &e.Rule, &e.Actor} {
		for *text != "" {
			b, err := json.Marshal(e)
			if err != nil || len(b) <= maxRefused {
				return e // what cannot be encoded fails where it is recorded
			}
			*text = cut(*text, max(len(*text)-(len(b)-maxRefused), 0))
		}
	}
	return e
}

const ellipsis = "…"

// cut returns text in at most limit bytes, whole characters of it, with an
// ellipsis where some are missing and there is room for it.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := limit - len(ellipsis)
	if end <= 0 {
		return ""
	}
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

// plain returns text as valid UTF-8 without NUL, which no tag may have.
func plain(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "�")
}

func refusalTags(actor, rule string) []string {
	var tags []string
	if actor != "" {
		tags = append(tags, cut("actor:"+actor, eventstore.MaxTag))
	}
	if rule != "" {
		tags = append(tags, cut("rule:"+rule, eventstore.MaxTag))
	}
	return tags
}
