package main

// The story and its nodes talk in lines of JSON: requests on a node's standard input, and what it says on its standard output.

// request asks a node for one thing.
type request struct {
	Call       int64  // its number, which the answer repeats
	Connect    string `json:",omitempty"` // the user of a client that connects
	Disconnect string `json:",omitempty"` // one that goes
	Import     *span  `json:",omitempty"` // users to make up
	Push       int    `json:",omitempty"` // the number of an announcement to all users
	Tag        string `json:",omitempty"` // a user who gets a tag: some change, like a thousand others
	Look       bool   `json:",omitempty"` // at the users and the announcements
	Check      bool   `json:",omitempty"` // the files
}

// span is the users with these numbers.
type span struct{ From, Before int }

// said is what a node says: the answer to a request, or a message for clients.
type said struct {
	Call  int64         `json:",omitempty"` // 0: a message
	Error string        `json:",omitempty"` // why it was not done
	Task  string        `json:",omitempty"` // of a push
	Users int64         `json:",omitempty"` // of a look
	Tasks map[string]on `json:",omitempty"` // of a look, by their IDs

	Message string   `json:",omitempty"` // the ID
	Body    string   `json:",omitempty"`
	To      []string `json:",omitempty"` // the users for whom it is
}

// on is how far an announcement is on.
type on struct{ Delivered, Pending int64 }
