// Browsers start no worker for a page that is opened as a file. There the search runs in a hidden frame instead, which
// speaks like a worker: messages in by postMessage, messages out as events.
if (location.protocol === "file:") {
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      // A script inside finds its way to other scripts by its own address, and asks for them with importScripts.
      inside.importScripts = (...urls) => urls.reduce((before, next) => before.then(() => load(next)), Promise.resolve());
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const load = (src) =>
        new Promise((resolve, reject) => {
          const script = inside.document.createElement("script");
          script.src = src;
          script.onload = resolve;
          script.onerror = reject;
          inside.document.body.append(script);
        });
      this.ready = load(new URL(url, location.href).href);
      this.inside = inside;
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {}
  }
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
