package notify

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/relay"
)

// The words for what stakeholders are told, as change.Stakeholder.Told has them.
const (
	Authorized   = "authorized"   // everything is in place that allows it to be carried out
	Rejected     = "rejected"     // an approval was refused, and it goes back to planning
	Started      = "started"      // the work begins
	Implemented  = "implemented"  // the work has ended, or was backed out
	Unauthorized = "unauthorized" // what was carried out already is refused
	Reviewed     = "reviewed"     // somebody judged how it went
	Held         = "held"         // it is put on hold
	Resumed      = "resumed"      // the hold has ended
	Closed       = "closed"       // it is done with
	Canceled     = "canceled"     // it ends without being carried out
)

var words = []string{Authorized, Rejected, Started, Implemented, Unauthorized, Reviewed, Held, Resumed, Closed, Canceled}

// Words returns what stakeholders can be told. Another word in change.Stakeholder.Told
// is never told by this package.
func Words() []string { return slices.Clone(words) }

// happening is what one event says to people. Its texts are as people wrote them.
type happening struct {
	word   string // empty: nobody is told
	says   string // of the change, as a verb: "has started"
	by     string // who did it, or what it rests on
	reason string
	at     time.Time // zero: when it was recorded
}

// cases are how events are told. A model may lead a change through one several times:
// each is told.
func (n *notifier) cases() []relay.Case {
	return []relay.Case{
		on(n, func(e change.Authorized) happening {
			h := happening{word: Authorized, says: "is authorized", by: e.By, at: e.At}
			if e.Retrospective {
				h.says = "is authorized in retrospect"
			}
			return h
		}),
		on(n, func(e change.Started) happening {
			h := happening{word: Started, says: "has started", by: e.By, at: e.At}
			if e.First {
				h.says = "has started before it was authorized"
			}
			return h
		}),
		on(n, func(e change.Implemented) happening {
			h := happening{word: Implemented, says: "is implemented", by: e.By, reason: e.Notes, at: e.End}
			if e.BackedOut {
				h.says = "is backed out"
			}
			return h
		}),
		on(n, func(e change.Unauthorized) happening {
			return happening{word: Unauthorized, says: "is refused after it was carried out", reason: e.Why, at: e.At}
		}),
		on(n, func(e change.Reviewed) happening {
			return happening{word: Reviewed, says: "is reviewed as " + string(e.Outcome), by: e.By, reason: e.Notes, at: e.At}
		}),
		on(n, func(e change.Held) happening {
			return happening{word: Held, says: "is on hold", by: e.By, reason: e.Reason, at: e.At}
		}),
		on(n, func(e change.Resumed) happening {
			return happening{word: Resumed, says: "is no longer on hold", by: e.By, reason: e.Reason, at: e.At}
		}),
		on(n, moved),
	}
}

// moved tells of the phases that mean something to everybody, whatever a model calls
// them.
func moved(e change.Moved) happening {
	h := happening{by: e.By, reason: e.Reason, at: e.At}
	switch {
	case e.Ends && e.Kind == string(change.KindClosed):
		h.word, h.says = Closed, "is closed"
	case e.Ends && e.Kind == string(change.KindCanceled):
		h.word, h.says = Canceled, "is canceled"
	case e.Verb == "reject":
		h.word, h.says = Rejected, "is rejected"
	}
	return h
}

func on[E any](n *notifier, say func(E) happening) relay.Case {
	return relay.On(func(ctx context.Context, e E, env relay.Envelope) error {
		h := say(e)
		if h.word == "" {
			return nil
		}
		if h.at.IsZero() {
			h.at = env.RecordedAt
		}
		return n.tell(ctx, env, h)
	})
}

// changeOf returns the ID of the change whose stream an event is in.
func changeOf(env relay.Envelope) (id string, ok bool) {
	return strings.CutPrefix(env.Stream, "change-")
}
