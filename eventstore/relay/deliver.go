package relay

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/rollforward/rollforward/eventstore"
)

// message makes the message of a delivery.
func (l *line) message(d *delivery) (m *message.Message, err error) {
	if l.config.Message != nil {
		return l.config.Message(d.record)
	}
	if d.meta, err = eventstore.DecodeMetadata(d.record.Meta); err != nil {
		return nil, err
	}
	d.decoded = true
	return messageOf(d.record, d.meta)
}

// deliver hands a message out and has somebody wait for its answer. Where the lease
// was not seen to be in force for a while, such as in a process that was stopped and
// goes on, it is looked at first.
func (l *line) deliver(d *delivery) error {
	l.turn++
	if l.id != "" {
		if time.Since(l.proved) > l.config.Lease/2 {
			if err := l.prove(l.ctx, l.hold); err != nil {
				return err
			}
		}
		d.fence = []eventstore.Expect{eventstore.At(leaseStream(l.id), l.token)}
	}
	m, err := l.message(d)
	if err != nil {
		// It cannot even be handed out.
		d.cancel, d.failed = func() {}, err
		l.flying[d] = true
		l.answers <- answer{delivery: d, nacked: true}
		return nil
	}
	ctx, cancel := context.WithCancel(context.WithValue(l.ctx, deliveryKey{}, d))
	d.cancel = cancel
	m.SetContext(ctx)
	l.flying[d] = true
	go func() {
		select {
		case l.out <- m:
		case <-l.closing: // nobody has taken it
			l.answers <- answer{delivery: d}
			return
		case <-ctx.Done():
			l.answers <- answer{delivery: d}
			return
		}
		select {
		case <-m.Acked():
			l.answers <- answer{delivery: d, acked: true}
		case <-m.Nacked():
			l.answers <- answer{delivery: d, nacked: true}
		case <-ctx.Done():
			// It may have been answered in the same moment.
			select {
			case <-m.Acked():
				l.answers <- answer{delivery: d, acked: true}
			default:
				l.answers <- answer{delivery: d}
			}
		}
	}()
	return nil
}
