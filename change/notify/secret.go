package notify

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a password or the key of a signature. However it is printed, logged or
// written as JSON, it reads "[secret]".
type Secret string

const redacted = "[secret]"

// Format implements fmt.Formatter for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns "[secret]", and so do the others.
func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
