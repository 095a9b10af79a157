package driven

// Limit has folds hold less: so many events that they have not taken, and so many that
// came too early.
func Limit(f *Folds, kept, ahead int) {
	f.line.mu.Lock()
	defer f.line.mu.Unlock()
	f.line.most.events, f.line.mostAhead.events = kept, ahead
}
