package cloudevents_test

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/relay/cloudevents"
)

func ExampleForm_Message() {
	form := cloudevents.Form{Source: "https://itsm.example.com/changes", TypePrefix: "com.example."}
	m, err := form.Message(eventstore.Recorded{
		Event: eventstore.Event{
			ID: uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), Stream: "change-CHG-000042", Type: "change.raised", Schema: 1,
			Data: []byte(`{"title":"Upgrade db-01"}`),
		},
		Version: 1, Position: 12, Append: 11, RecordedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Metadata[cloudevents.KeyContentType])
	fmt.Println(string(m.Payload))
	r, err := form.Recorded(m)
	fmt.Println(r.Stream, r.Version, r.Position, err)
	// Output:
	// application/cloudevents+json; charset=UTF-8
	// {"specversion":"1.0","id":"01890a5d-ac96-774b-bcce-b302099a8057","source":"https://itsm.example.com/changes","type":"com.example.change.raised","subject":"change-CHG-000042","datacontenttype":"application/json","time":"2026-01-02T03:04:05Z","data":{"title":"Upgrade db-01"},"appendsequence":"00000000000000000011","recordedtime":"2026-01-02T03:04:05Z","schemaversion":1,"sequence":"00000000000000000012","streamversion":"1"}
	// change-CHG-000042 1 12 <nil>
}
