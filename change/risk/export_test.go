package risk

import "github.com/rollforward/rollforward/change"

// Cached returns how many conditions a hook made by CEL keeps compiled.
func Cached(e change.Expressions) int {
	own := e.(*expressions)
	own.mu.Lock()
	defer own.mu.Unlock()
	if len(own.compiled) != len(own.order) {
		return -1
	}
	return len(own.compiled)
}
