//go:build race

// Package race says whether the race detector is on, so that long tests can take
// a smaller size under it.
package race

// Enabled reports whether the program was built with -race.
const Enabled = true
