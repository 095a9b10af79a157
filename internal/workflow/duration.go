package workflow

import (
	"fmt"
	"time"
)

// Duration is a time.Duration whose JSON is text: "72h0m0s".
type Duration time.Duration

// String returns d as Go writes durations: "72h0m0s".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText returns d as [Duration.String] does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText sets d from text that time.ParseDuration takes.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write it as 90m or 72h", text)
	}
	*d = Duration(parsed)
	return nil
}
