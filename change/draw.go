package change

// Mermaid returns the state graph of a model as a Mermaid state diagram, with the
// ways to cancel and to return that every model has. String of a model lists the
// rest of what it says.
func Mermaid(m Model) string { return m.Mermaid(words) }

// DOT returns the state graph of a model for Graphviz.
func DOT(m Model) string { return m.DOT(words) }
