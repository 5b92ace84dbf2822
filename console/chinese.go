package console

var chinese = map[string]string{}
