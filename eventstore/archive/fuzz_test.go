package archive_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/archive"
)

// FuzzRead reads what it is given as a whole file, and as the lines between a
// header and a trailer that fit. Whatever is accepted must be exactly what the
// writer makes of it.
func FuzzRead(f *testing.F) {
	file := export(f, library(f))
	f.Add(file)
	f.Add(file[:len(file)/2])
	f.Add([]byte(soundLine))
	f.Add([]byte(`{"format":"rollforward.archive","version":2}` + "\n"))
	for line := range bytes.Lines(file) {
		f.Add(bytes.TrimSuffix(line, []byte("\n")))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		reread(t, file)
		whole := []byte(`{"format":"rollforward.archive","version":1}` + "\n")
		n := bytes.Count(file, []byte("\n")) + 1
		whole = append(append(whole, file...), '\n')
		reread(t, fmt.Appendf(whole, `{"end":{"events":%d,"sha256":"%x"}}`+"\n", n, sha256.Sum256(whole)))
	})
}

func reread(t *testing.T, file []byte) {
	var again bytes.Buffer
	w := archive.NewWriter(&again)
	for r, err := range archive.Read(bytes.NewReader(file)) {
		if err != nil {
			require.Zero(t, r)
			require.Error(t, damage(t, file))
			return
		}
		require.NoError(t, eventstore.Validate([]eventstore.Event{r.Event}, nil))
		require.NoError(t, w.Write(r))
	}
	_, err := w.End()
	require.NoError(t, err)
	require.Equal(t, string(file), again.String())
}
