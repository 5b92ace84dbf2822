package console
import ("testing";"github.com/fanfare-im/fanfare";"fmt")
func TestSmoke(t *testing.T){ b:=newBench(t); task:=b.push(fanfare.All())
 for _,p:=range []string{"/","/figures","/compose","/tasks","/tasks/"+task.ID,"/tasks/"+task.ID+"/withdraw","/users","/users?id=alice&message="+task.ID,"/audit","/nope"} { w:=b.get("oscar",p); fmt.Println(p,w.Code,w.Body.Len()) ; if w.Code==500 {fmt.Println(w.Body)} }
 for _,p:=range []string{"/compose","/compose/audience","/compose/complete","/compose/preview","/compose/confirm","/compose/test"} { w:=b.post("oscar",p,with(draftFields("tag:vip"),"testto","alice","notify","yes","title","hi")); fmt.Println(p,w.Code,w.Body.Len()) }
 w:=b.post("oscar","/compose/send",with(draftFields("tag:vip"),"confirm","2","counted","2")); fmt.Println(w.Code,w.Header())
 w=b.post("oscar","/tasks/"+task.ID+"/withdraw",nil); fmt.Println(w.Code,w.Header(), w.Body.Len())
 fmt.Println(b.get("vera","/audit").Body)
}
