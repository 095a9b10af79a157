package workflow

// Validate returns every fault of a model as a *ModelError, or nil.
func (m Model) Validate(v Vocabulary) error { panic("stub") }

// Phase returns the phase of that name; ok is false if there is none.
func (m Model) Phase(name string) (p Phase, ok bool) { panic("stub") }

// Stage returns the stage of that name; ok is false if there is none.
func (m Model) Stage(name string) (s Stage, ok bool) { panic("stub") }

// From returns the transitions out of a phase, in the order of the model.
func (m Model) From(phase string) []Transition { panic("stub") }

// Voids returns the stages that an edit of these fields voids, in the order of
// the model; v.Material fields void all stages where the model says nothing.
func (m Model) Voids(v Vocabulary, fields []string) []string { panic("stub") }

// Mermaid returns the state graph of m as a Mermaid state diagram.
func (m Model) Mermaid() string { panic("stub") }

// DOT returns the state graph of m for Graphviz.
func (m Model) DOT() string { panic("stub") }

// String returns m as a table for people: phases, transitions, stages.
func (m Model) String() string { panic("stub") }
