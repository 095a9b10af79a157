package change

func (f Facts) Map() map[string]any { return map[string]any{} }
