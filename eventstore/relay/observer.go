package relay

import "context"

// Observer is told of the calls of handlers, such as telemetry. It is called in the
// goroutine of the call, concurrently for several, and neither waits nor panics.
type Observer interface {
	// Delivery begins with a call of a handler and returns the context that the handler
	// is given, and what is called once with what the delivery came to: nil if the event
	// is acknowledged.
	Delivery(ctx context.Context, env Envelope) (context.Context, func(error))
}

// notYet is why a handler was not called: nothing is known of its event.
type notYet struct{ error }

func (e notYet) Unwrap() error { return e.error }

// ready asks Config.Before, for as long as a call may take.
func (p *prepared) ready(ctx context.Context, env Envelope) error {
	if p.before == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	if err := p.before(ctx, env); err != nil {
		return notYet{err}
	}
	return nil
}
