package notify

import (
	"errors"
	"fmt"
)

// Failure says why a notice is not tried again. A Sender may have kinds of its own:
// lower case, without spaces.
type Failure string

// The kinds of failure.
const (
	NoAddress  Failure = "no-address"  // nobody said how he is reached
	NoChannel  Failure = "no-channel"  // he is reached by a channel that has no Sender
	BadAddress Failure = "bad-address" // the Sender does not understand where
	Refused    Failure = "refused"     // who was to deliver it said no: SMTP 5xx, HTTP 4xx but 408 and 429
	Redirected Failure = "redirected"  // a webhook answered with another address, which is not followed
	GaveUp     Failure = "gave-up"     // it was tried for as long as Config.Patience
)

// UndeliverableError is how a Sender says that trying again does not help.
type UndeliverableError struct {
	Why  Failure
	Code int   // of the reply; 0 is none
	Err  error // for the log of the program; it is not recorded
}

func (e *UndeliverableError) Error() string {
	s := "the notice cannot be delivered: " + string(e.Why)
	if e.Code != 0 {
		s += fmt.Sprintf(", reply %d", e.Code)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *UndeliverableError) Unwrap() error { return e.Err }

// outcome is how an attempt to send a notice ended.
type outcome struct {
	why  Failure // empty: it was sent
	code int
	err  error // it is to be tried again
}

func outcomeOf(err error) outcome {
	var never *UndeliverableError
	switch {
	case err == nil:
		return outcome{}
	case errors.As(err, &never):
		why := never.Why
		if !plain(string(why), 64) {
			why = Refused
		}
		return outcome{why: why, code: never.Code, err: nil}
	}
	return outcome{err: err}
}
