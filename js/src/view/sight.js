/** Whether anybody can see an element: in a page that is shown, and not scrolled away. */

/** @param {Element} target @param {(seen: boolean) => void} changed called once at the beginning too @param {AbortSignal} signal */
export function onSight(target, changed, signal) {
    let inside = false, told = /** @type {boolean | null} */ (null);
    const tell = () => {
        const seen = inside && !document.hidden;
        if(seen === told) return;
        told = seen;
        changed(seen);
    };
    const observer = new IntersectionObserver(entries => {
        inside = /** @type {IntersectionObserverEntry} */ (entries.at(-1)).isIntersecting;
        tell();
    });
    observer.observe(target);
    document.addEventListener("visibilitychange", tell, { signal });
    signal.addEventListener("abort", () => observer.disconnect());
}
