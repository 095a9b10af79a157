package notify

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/cmdb"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// recordAction is what the handler's actor needs the right to.
const recordAction = "notify.record"

// recipient is somebody who is to be told.
type recipient struct {
	who   string
	owner bool // as the owner of a CI
}

// notice is one message to one address.
type notice struct {
	Message
	recipient
	to      Address
	part    string // of the key
	outcome outcome
}

// tell tells everybody who is to be told of an event and has no receipt.
func (n *notifier) tell(ctx context.Context, env relay.Envelope, h happening) error {
	id, ok := changeOf(env)
	if !ok {
		return relay.Permanent(fmt.Errorf("event %s of type %s lies in %q, which is no stream of a change", env.ID, env.Type, env.Stream))
	}
	c, err := n.Changes.At(ctx, id, env.Version)
	if err != nil {
		return err
	}
	people, err := n.recipients(ctx, c, h.word)
	if err != nil || len(people) == 0 {
		return err
	}
	known, err := n.receipts(ctx, env, id)
	if err != nil {
		return err
	}
	todo, err := n.notices(ctx, env, c, h, people, known)
	if err != nil {
		return err
	}
	return n.deliver(ctx, env, id, todo)
}

// recipients returns who is told of an event, each once, stakeholders first.
func (n *notifier) recipients(ctx context.Context, c change.Change, word string) ([]recipient, error) {
	var all []recipient
	seen := map[string]bool{}
	add := func(who string, owner bool) {
		if who != "" && !seen[who] {
			seen[who] = true
			all = append(all, recipient{who, owner})
		}
	}
	for _, s := range c.Stakeholders {
		told := s.Told
		if len(told) == 0 {
			told = n.Otherwise
		}
		if slices.Contains(told, word) {
			add(s.Who, false)
		}
	}
	if !slices.Contains(n.OwnersTold, word) {
		return all, nil
	}
	cis := c.Declared()
	if c.Impact != nil {
		for _, ci := range c.Impact.Top {
			cis = append(cis, ci.ID)
		}
	}
	if len(cis) == 0 {
		return all, nil
	}
	owners, err := n.Owners(ctx, cis)
	if err != nil {
		return nil, fmt.Errorf("look up the owners of what %s touches: %w", c.ID, err)
	}
	for _, who := range owners {
		add(who, true)
	}
	return all, nil
}

// OwnersIn returns Config.Owners that finds them in the CMDB as it stands when they
// are to be told: the attribute "owner" of each CI that has one.
func OwnersIn(s *cmdb.Service) func(ctx context.Context, cis []string) ([]string, error) {
	return func(ctx context.Context, cis []string) ([]string, error) {
		owners := map[string]bool{}
		err := s.View(ctx, func(g *cmdb.Graph) error {
			for _, id := range cis {
				if ci, ok := g.CI(id); ok && ci.Attributes[cmdb.AttrOwner] != "" {
					owners[ci.Attributes[cmdb.AttrOwner]] = true
				}
			}
			return nil
		})
		return slices.Sorted(maps.Keys(owners)), err
	}
}

// receipts returns the keys that have a receipt, and an error if none may be recorded:
// then nothing is sent, for it would be sent again and again.
func (n *notifier) receipts(ctx context.Context, env relay.Envelope, id string) (known map[string]bool, err error) {
	call := env.Call(n.Actor)
	call.Key, call.Action, call.Target = "", recordAction, id
	refused, err := n.Door.Try(ctx, call, func(tx *command.Tx) (err error) {
		if err := tx.Authorize(recordAction, id, nil); err != nil {
			return err
		}
		known, err = settled.Load(tx.Tx, streamPrefix+id)
		return err
	})
	if err == nil {
		err = command.Refuse(refused...)
	}
	if err != nil {
		return nil, fmt.Errorf("nothing is sent that could not be recorded: %w", err)
	}
	return known, nil
}

// notices returns what is still to be sent, or to be recorded as failed.
func (n *notifier) notices(ctx context.Context, env relay.Envelope, c change.Change, h happening, people []recipient, known map[string]bool) ([]*notice, error) {
	var all []*notice
	seen := map[string]bool{}
	for _, to := range people {
		subject, text, err := n.render(n.page(c, h, to))
		if err != nil {
			return nil, err // of the program's own template, which somebody has to mend
		}
		addresses, failed := n.addresses(ctx, to.who)
		if len(addresses) == 0 {
			addresses = []Address{{}}
		}
		for _, a := range addresses {
			m := &notice{recipient: to, to: a, part: digest(env, to.who, a), outcome: failed}
			key := env.Key(m.part)
			if known[key] || seen[key] {
				n.recorded(key)
				continue
			}
			seen[key] = true
			m.Message = Message{
				Key: key, Change: c.ID, Version: env.Version, Event: env.ID.String(), Word: h.word, Who: to.who, At: h.at,
				Title: line(c.Title, maxField), Subject: subject, Text: text,
			}
			if n.base != nil {
				m.Link = n.base.JoinPath(c.ID).String()
			}
			if failed == (outcome{}) && n.Senders[a.Channel] == nil {
				m.outcome.why = NoChannel
			}
			all = append(all, m)
		}
	}
	return all, nil
}

// addresses asks the program's directory. What it does not know is not told; what it
// could not find out is tried again.
func (n *notifier) addresses(ctx context.Context, who string) (all []Address, failed outcome) {
	defer func() {
		if p := recover(); p != nil {
			all, failed = nil, outcome{err: &relay.PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, n.Timeout)
	defer cancel()
	all, err := n.Addresses(ctx, who)
	switch {
	case errors.Is(err, ErrUnknown), err == nil && len(all) == 0:
		return nil, outcome{why: NoAddress}
	case err != nil:
		return nil, outcome{err: fmt.Errorf("look up how he is reached: %w", err)}
	}
	return all, outcome{}
}

// digest tells notices of one event apart. It has the event in it, so that the same
// address looks different in each receipt: nobody sees from two of them that two
// people are reached at one place.
func digest(env relay.Envelope, who string, a Address) string {
	b := slices.Clone(env.ID[:])
	for _, part := range []string{who, a.Channel, a.Where} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// deliver sends what is to be sent, a few at once, and records each as soon as it is
// known how it ended. Where a receipt cannot be recorded no further one is sent.
func (n *notifier) deliver(ctx context.Context, env relay.Envelope, id string, todo []*notice) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	work, done := make(chan *notice), make(chan *notice)
	var senders sync.WaitGroup
	for range min(sending, len(todo)) {
		senders.Go(func() {
			for m := range work {
				n.attempt(ctx, m)
				done <- m
			}
		})
	}
	go func() {
		defer func() { close(work); senders.Wait(); close(done) }()
		for _, m := range todo {
			select {
			case work <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	settled := 0
	waiting := map[string]int{}
	var broken error
	for m := range done {
		if m.outcome.err != nil {
			n.Logger.WarnContext(ctx, "a notice is not sent yet", "notice", m.Key, "change", id, "who", m.who, "channel", m.to.Channel, "error", m.outcome.err)
			if !n.givesUp(env) {
				waiting[m.to.Channel]++
				continue
			}
			m.outcome = outcome{why: GaveUp}
		}
		if err := n.record(ctx, env, id, m); err != nil {
			if broken == nil {
				broken = fmt.Errorf("record the receipt of notice %s: %w", m.Key, err)
			}
			stop()
			continue
		}
		settled++
	}
	switch {
	case broken != nil:
		return broken
	case settled < len(todo):
		return &waitingError{change: id, settled: settled, of: len(todo), byChannel: waiting, cause: context.Cause(ctx)}
	}
	return nil
}

// attempt sends one notice, unless it is known already how it ended.
func (n *notifier) attempt(ctx context.Context, m *notice) {
	if m.outcome != (outcome{}) {
		return
	}
	n.mu.Lock()
	known, ok := n.unrecorded[m.Key]
	n.mu.Unlock()
	if ok {
		m.outcome = known
		return
	}
	defer func() {
		if p := recover(); p != nil {
			m.outcome = outcome{err: &relay.PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, n.Timeout)
	defer cancel()
	err := n.Senders[m.to.Channel].Send(ctx, m.to.Where, m.Message)
	m.outcome = outcomeOf(err)
	if m.outcome.why != "" {
		n.Logger.WarnContext(ctx, "a notice cannot be delivered", "notice", m.Key, "change", m.Change, "who", m.who, "channel", m.to.Channel, "error", err)
	}
}

// givesUp reports whether an event has been tried for long enough. The attempts are
// counted too, so that what waited elsewhere until now is not given up at once.
func (n *notifier) givesUp(env relay.Envelope) bool {
	return n.Patience > 0 && env.Attempt >= 3 && n.Door.Now().Sub(env.RecordedAt) >= n.Patience
}

// recordTimeout is how long a receipt may take to be recorded, also when the event's
// own time is over: what was sent without a receipt is sent again.
const recordTimeout = 10 * time.Second

// record records how a notice ended, once.
func (n *notifier) record(ctx context.Context, env relay.Envelope, id string, m *notice) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	call := env.Call(n.Actor, m.part)
	call.Action, call.Target = recordAction, id
	call.Content = map[string]string{"word": m.Word, "who": m.who, "channel": m.to.Channel} // not how it ended, so that of two processes the first one's word counts
	_, err := n.Door.Do(ctx, call, func(tx *command.Tx) error {
		if err := tx.Authorize(recordAction, id, nil); err != nil {
			return err
		}
		// Not held to a version: the key sees to it that there is one receipt, and those
		// of other notices are no reason to decide anew.
		if m.outcome.why == "" {
			return tx.RecordBlind(streamPrefix+id, Sent{m.Key, id, env.Version, env.ID, m.Word, m.who, m.owner, m.to.Channel, tx.Now})
		}
		return tx.RecordBlind(streamPrefix+id, Failed{m.Key, id, env.Version, env.ID, m.Word, m.who, m.owner, m.to.Channel, m.outcome.why, m.outcome.code, tx.Now})
	})
	if err != nil {
		n.keep(m)
		return err
	}
	n.recorded(m.Key)
	return nil
}

// maxUnrecorded bounds what keep keeps; beyond it a notice may be sent again.
const maxUnrecorded = 10_000

// keep remembers a notice without a receipt, so that this process does not send it
// again when the store is back.
func (n *notifier) keep(m *notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.unrecorded) < maxUnrecorded {
		n.unrecorded[m.Key] = m.outcome
	}
}

func (n *notifier) recorded(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.unrecorded, key)
}

// waitingError says that the relay has to come again. It has no text of a Sender in
// it, which may name an address: it is recorded where the event is parked.
type waitingError struct {
	change      string
	settled, of int
	byChannel   map[string]int
	cause       error // of the event's own end
}

func (e *waitingError) Error() string {
	s := fmt.Sprintf("%d of %d notices of %s are not sent yet", e.of-e.settled, e.of, e.change)
	var parts []string
	for _, channel := range slices.Sorted(maps.Keys(e.byChannel)) {
		name := channel
		if name == "" {
			name = "without an address"
		}
		parts = append(parts, fmt.Sprintf("%s %d", name, e.byChannel[channel]))
	}
	if len(parts) > 0 {
		s += ", by channel: " + strings.Join(parts, ", ")
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

func (e *waitingError) Unwrap() error { return e.cause }
